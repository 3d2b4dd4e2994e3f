/*
 * `sentry-exec`: asks a gVisor sandbox for a further process. Its streams go to the sandbox with the
 * request, as descriptors beside its first byte; that is what this is for, as the rest of it the
 * sandboxer could do itself. See quark/gvisor/control_exec.ts for what is asked.
 *
 *     quasaur-host-launcher sentry-exec SOCKET stdio IN OUT ERR
 *     quasaur-host-launcher sentry-exec SOCKET terminal CONSOLE
 *
 * The request comes on standard input, and the answer goes to standard output; neither is looked at.
 * Streams are as the verb `stdio` opens them. With `terminal` a new one is made, and its master sent
 * to the console socket (see terminal.c).
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX (4 << 20)
#define ANSWER_BYTES_MAX (64 << 10)
#define STREAMS 3
#define ANSWER_SECONDS_MAX 60

/* Reads to the end. Its length, or -1 with errno. */
static ssize_t read_all(int fd, char *bytes, size_t size) {
  size_t length = 0;
  for (;;) {
    if (length == size) {
      errno = EMSGSIZE;
      return -1;
    }
    const ssize_t got = read(fd, bytes + length, size - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) return (ssize_t)length;
    length += (size_t)got;
  }
}

/* Writes all of it, descriptors with the first byte. -1 with errno. */
static int send_all(int fd, const char *bytes, size_t length, const int *fds, size_t count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(STREAMS * sizeof(int))];
  } ancillary = {0};
  struct iovec vector;
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = ancillary.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    ancillary.header.cmsg_level = SOL_SOCKET;
    ancillary.header.cmsg_type = SCM_RIGHTS;
    ancillary.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    (void)memcpy(CMSG_DATA(&ancillary.header), fds, count * sizeof(int));
  }
  while (length > 0) {
    vector = (struct iovec){.iov_base = (char *)(uintptr_t)bytes, .iov_len = length};
    const ssize_t put = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return -1;
    bytes += put;
    length -= (size_t)put;
    message.msg_control = NULL;
    message.msg_controllen = 0;
  }
  return 0;
}

/* A connection, or -1 with errno. */
static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  (void)strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const struct timeval patience = {.tv_sec = ANSWER_SECONDS_MAX};
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
      connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
    const int error = errno;
    if (fd >= 0) (void)close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

static int open_stdio(char **paths, int fds[STREAMS]) {
  for (int i = 0; i < STREAMS; i++) {
    const int status = host_open_stream(i, paths[i], &fds[i]);
    if (status != 0) return status;
    /* The sandbox gives the process a descriptor as it finds it. */
    if (host_make_blocking(fds[i]) != 0) {
      return host_fail_errno("cannot open %s \"%.500s\"", host_stream_name(i), paths[i]);
    }
  }
  return 0;
}

/* Makes a terminal: its master goes to the console socket, and the other end is all three streams. */
static int open_terminal(const char *console, int fds[STREAMS]) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || unlockpt(master) != 0) return host_fail_errno("cannot make a terminal");
  const int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return host_fail_errno("cannot open a terminal");
  for (int i = 0; i < STREAMS; i++) fds[i] = slave;
  int connection = connect_to(console);
  static const char NAME[] = "pty-master";
  if (connection < 0 || send_all(connection, NAME, sizeof NAME - 1, &master, 1) != 0) {
    return host_fail_errno("cannot send a terminal to \"%.500s\"", console);
  }
  /* It is closed at its other end when the terminal has its size. */
  char nothing;
  (void)read_all(connection, &nothing, sizeof nothing);
  (void)close(connection);
  (void)close(master);
  return 0;
}

/* Sends the request with the streams, and passes the answer on. */
static int ask(const char *path, const char *request, size_t length, const int fds[STREAMS]) {
  static char answer[ANSWER_BYTES_MAX];
  const int connection = connect_to(path);
  if (connection < 0) return host_fail_errno("cannot connect to \"%.500s\"", path);
  /* The sandbox closes the connection once it has answered: it then knows that nothing follows. */
  if (send_all(connection, request, length, fds, STREAMS) != 0 ||
      shutdown(connection, SHUT_WR) != 0) {
    return host_fail_errno("cannot send to \"%.500s\"", path);
  }
  const ssize_t got = read_all(connection, answer, sizeof answer);
  if (got < 0) return host_fail_errno("no answer from \"%.500s\"", path);
  if (write(STDOUT_FILENO, answer, (size_t)got) == got) return 0;
  return host_fail_errno("cannot write the answer");
}

int host_sentry_exec(int argc, char **argv) {
  const bool is_stdio = argc == 6 && strcmp(argv[2], "stdio") == 0;
  const bool is_terminal = argc == 4 && strcmp(argv[2], "terminal") == 0;
  if ((!is_stdio && !is_terminal) || !host_is_plain_path(argv[1])) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected the path of a socket, and streams");
  }
  char *request = malloc(REQUEST_BYTES_MAX);
  if (request == NULL) return host_fail_errno("cannot read the request");
  const ssize_t length = read_all(STDIN_FILENO, request, REQUEST_BYTES_MAX);
  int status = 0;
  int fds[STREAMS] = {-1, -1, -1};
  if (length < 0) {
    status = host_fail_errno("cannot read the request");
  } else {
    status = is_stdio ? open_stdio(argv + 3, fds) : open_terminal(argv[3], fds);
  }
  if (status == 0) status = ask(argv[1], request, (size_t)length, fds);
  free(request);
  return status;
}
