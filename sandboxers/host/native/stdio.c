/*
 * `stdio`: opens the standard streams of a program and becomes it. What the program does with them is
 * not seen here: bytes go straight between it and who made the FIFOs.
 *
 *     quasaur-host-launcher stdio IN OUT ERR -- PROGRAM [ARGUMENT]...
 *
 * Each of the three is an absolute path, or "-" for nothing. The program has this process's
 * environment and rights, and no other descriptors. What fails before it begins is told on the
 * standard error that this process was started with, which is closed when it begins.
 *
 * `mkfifo`: makes FIFOs that only this user can open.
 *
 *     quasaur-host-launcher mkfifo PATH...
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where failures are told is above all that a program might expect something at. */
#define ERROR_FD_FIRST 10
#define FIFOS_MAX 16

const char *host_stream_name(int number) {
  static const char *const NAMES[] = {"stdin", "stdout", "stderr"};
  return NAMES[number];
}

static int open_flags(int number, mode_t mode) {
  if (number == STDIN_FILENO) return O_RDONLY;
  return S_ISFIFO(mode) ? O_RDWR : O_WRONLY | O_APPEND;
}

int host_open_stream(int number, const char *path, int *fd) {
  const bool nothing = strcmp(path, "-") == 0;
  if (!nothing && !host_is_plain_path(path)) {
    return host_fail(CODE_INVALID_ARGUMENT, "cannot open %s \"%.500s\": expected an absolute path",
                     host_stream_name(number), path);
  }
  const char *file = nothing ? "/dev/null" : path;
  struct stat status;
  if (stat(file, &status) != 0) {
    return host_fail_errno("cannot open %s \"%.500s\"", host_stream_name(number), file);
  }
  if (S_ISDIR(status.st_mode) || S_ISSOCK(status.st_mode)) {
    return host_fail(CODE_INVALID_ARGUMENT,
                     "cannot open %s \"%.500s\": it is a %s: expected a FIFO or a file",
                     host_stream_name(number), file,
                     S_ISDIR(status.st_mode) ? "directory" : "socket");
  }
  *fd = open(file, open_flags(number, status.st_mode) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (*fd >= 0) return 0;
  return host_fail_errno("cannot open %s \"%.500s\"", host_stream_name(number), file);
}

int host_make_blocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

/* Opens all three above the standard descriptors, so that none takes the place of another. */
static int open_streams(char **paths, int fds[3]) {
  for (int i = 0; i < 3; i++) {
    int fd = -1;
    const int status = host_open_stream(i, paths[i], &fd);
    if (status != 0) return status;
    fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, ERROR_FD_FIRST);
    if (fds[i] < 0 || host_make_blocking(fds[i]) != 0) {
      return host_fail_errno("cannot open %s \"%.500s\"", host_stream_name(i), paths[i]);
    }
    if (fd >= ERROR_FD_FIRST) (void)close(fd);
  }
  return 0;
}

int host_stdio(int argc, char **argv) {
  if (argc < 6 || strcmp(argv[4], "--") != 0 || argv[5][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT,
                     "expected three paths, \"--\" and the absolute path of a program");
  }
  host_error_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, ERROR_FD_FIRST);
  if (host_error_fd < 0) {
    host_error_fd = STDERR_FILENO;
    return host_fail_errno("cannot keep standard error");
  }
  const int refusal = host_check_own_program(argv[5]);
  if (refusal != 0) return refusal;
  (void)setsid(); /* fails only where it leads a session already */
  int fds[3] = {-1, -1, -1};
  const int status = open_streams(argv + 1, fds);
  if (status != 0) return status;
  for (int i = 0; i < 3; i++) {
    if (dup2(fds[i], i) < 0) return host_fail_errno("cannot connect %s", host_stream_name(i));
  }
  if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) != 0) {
    return host_fail_errno("cannot close descriptors");
  }
  (void)execve(argv[5], argv + 5, environ);
  return host_fail_errno("cannot execute \"%.500s\"", argv[5]);
}

int host_mkfifo(int argc, char **argv) {
  if (argc < 2 || argc > 1 + FIFOS_MAX) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected 1 to %d paths", FIFOS_MAX);
  }
  for (int i = 1; i < argc; i++) {
    if (!host_is_plain_path(argv[i])) {
      return host_fail(CODE_INVALID_ARGUMENT, "cannot make FIFO \"%.500s\": expected an absolute path",
                       argv[i]);
    }
    if (mkfifo(argv[i], 0600) == 0) continue;
    const int error = errno;
    while (--i >= 1) (void)unlink(argv[i]);
    errno = error;
    return host_fail_errno("cannot make a FIFO");
  }
  return 0;
}
