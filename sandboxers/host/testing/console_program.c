/*
 * Runs a program in a terminal whose master it has sent to a console socket, as an OCI runtime does:
 *
 *     console_program SOCKET PROGRAM [ARGUMENT]...
 *
 * The program begins when the terminal was taken, and so has its size. Ends as the program does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int result, const char *what) {
  if (result >= 0) return;
  perror(what);
  exit(99);
}

static void send_descriptor(const char *path, int fd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  const int connection = socket(AF_UNIX, SOCK_STREAM, 0);
  check(connect(connection, (struct sockaddr *)&address, sizeof address), "connect");
  char name[] = "pty-master";
  struct iovec vector = {.iov_base = name, .iov_len = sizeof name - 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } ancillary = {0};
  ancillary.header.cmsg_level = SOL_SOCKET;
  ancillary.header.cmsg_type = SCM_RIGHTS;
  ancillary.header.cmsg_len = CMSG_LEN(sizeof(int));
  (void)memcpy(CMSG_DATA(&ancillary.header), &fd, sizeof fd);
  const struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = ancillary.bytes,
                                 .msg_controllen = sizeof ancillary.bytes};
  check((int)sendmsg(connection, &message, 0), "sendmsg");
  /* Who takes it closes the connection when its size is set. */
  char end;
  check((int)read(connection, &end, sizeof end), "read");
  (void)close(connection);
}

int main(int argc, char **argv) {
  if (argc < 3) return 99;
  /* What is no terminal is sent where the program's name is empty. */
  const int is_terminal = argv[2][0] != '\0';
  const int master = is_terminal ? posix_openpt(O_RDWR | O_NOCTTY) : open("/dev/null", O_RDWR);
  check(master, "open");
  if (!is_terminal) {
    send_descriptor(argv[1], master);
    return 0;
  }
  check(unlockpt(master), "unlockpt");
  const int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
  check(slave, "TIOCGPTPEER");
  send_descriptor(argv[1], master);
  (void)close(master);
  const pid_t child = fork();
  check(child, "fork");
  if (child == 0) {
    check(setsid(), "setsid");
    check(ioctl(slave, TIOCSCTTY, 0), "TIOCSCTTY");
    for (int fd = 0; fd < 3; fd++) check(dup2(slave, fd), "dup2");
    if (slave > 2) (void)close(slave);
    (void)execvp(argv[2], argv + 2);
    _exit(98);
  }
  (void)close(slave);
  int status = 0;
  check(waitpid(child, &status, 0), "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}
