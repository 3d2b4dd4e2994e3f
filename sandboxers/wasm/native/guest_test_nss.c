/*
 * What an image could bring along: a module for the C library's name service, as
 * /lib/libnss_evil.so.2. It leaves a mark when it is loaded.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void leave_a_mark(void) {
  const int fd = open("/mark", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
}
