/*
 * Opens as many descriptors as it gets, of the kind that its first argument names (file, socket,
 * directory), 1,000,000 at most; prints how many, and the error of the one that was refused. With
 * a second argument it keeps them for so many seconds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int32_t sock_open(int32_t family, int32_t type, int32_t *fd)
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_open")));

static int open_one(const char *kind) {
  if (strcmp(kind, "socket") == 0) {
    int32_t fd = -1;
    return sock_open(1, 2, &fd);
  }
  int flags = strcmp(kind, "directory") == 0 ? O_RDONLY | O_DIRECTORY : O_RDONLY;
  int fd = open(flags & O_DIRECTORY ? "/" : "/hello.wasm", flags);
  return fd < 0 ? errno : 0;
}

int main(int argc, char **argv) {
  int count = 0, error = 0;
  while (count < 1000000 && (error = open_one(argc > 1 ? argv[1] : "file")) == 0) count++;
  printf("opened %d, then error %d\n", count, error);
  fflush(stdout);
  if (argc > 2) sleep((unsigned)atoi(argv[2]));
  return 0;
}
