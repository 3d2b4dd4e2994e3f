/*
 * `relay`: the resident relay of a kind of sandbox, between the socket that containerd sees and the
 * sandboxer's own.
 *
 *     quasaur-host-launcher relay LISTEN SERVER
 *
 * It ends when it is told to (SIGTERM), and by itself when for a while nobody is connected and no
 * sandboxer serves.
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 256
#define IDLE_MS 30000

static struct sockaddr_un listen_address;
static struct stat listen_file;

/* Removes the socket, unless another one has taken its place. */
static void remove_socket(void) {
  struct stat now;
  if (lstat(listen_address.sun_path, &now) != 0) return;
  if (now.st_ino != listen_file.st_ino || now.st_dev != listen_file.st_dev) return;
  (void)unlink(listen_address.sun_path);
}

/* Whether somebody accepts connections there; what nobody serves is removed. An exit status. */
static int claim(void) {
  /* Where somebody listens who takes no more connections, this is not the place to wait. */
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return host_fail_errno("cannot make a socket");
  const int failed = connect(fd, (const struct sockaddr *)&listen_address, sizeof listen_address);
  const int error = errno;
  (void)close(fd);
  const char *path = listen_address.sun_path;
  if (failed == 0 || error == EAGAIN) {
    return host_fail(CODE_ALREADY_EXISTS,
                     "cannot listen at \"%s\": another process serves it: stop that process or "
                     "choose another path",
                     path);
  }
  struct stat status;
  if (error == ENOENT) return 0;
  if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
    return host_fail(CODE_FAILED_PRECONDITION,
                     "cannot listen at \"%s\": a file that is no socket is there: remove it or "
                     "choose another path",
                     path);
  }
  if (error == ECONNREFUSED && unlink(path) == 0) return 0;
  errno = error;
  return host_fail_errno("cannot listen at \"%s\"", path);
}

/* A descriptor, or -1 after it was said why not. */
static int listen_there(int *status) {
  *status = claim();
  if (*status != 0) return -1;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  (void)umask(0177);
  if (fd >= 0 && bind(fd, (const struct sockaddr *)&listen_address, sizeof listen_address) == 0 &&
      listen(fd, BACKLOG) == 0 && lstat(listen_address.sun_path, &listen_file) == 0) {
    return fd;
  }
  *status = host_fail_errno("cannot listen at \"%s\"", listen_address.sun_path);
  if (fd >= 0) (void)close(fd);
  return -1;
}

int host_relay(int argc, char **argv) {
  if (argc != 3 || !host_is_plain_path(argv[1]) || !host_is_plain_path(argv[2]) ||
      strlen(argv[1]) >= sizeof listen_address.sun_path) {
    return host_fail(CODE_INVALID_ARGUMENT,
                     "expected two absolute paths, the first of at most %zu bytes",
                     sizeof listen_address.sun_path - 1);
  }
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return host_fail_errno("cannot close files");
  listen_address.sun_family = AF_UNIX;
  (void)strcpy(listen_address.sun_path, argv[1]);
  char *name = strrchr(argv[2], '/');
  *name = '\0';
  const char *parent = argv[2][0] == '\0' ? "/" : argv[2];
  const int directory = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return host_fail_errno("no directory \"%.500s\"", parent);
  /* A signal that comes from now on is read when there is somebody to read it. */
  sigset_t ending;
  (void)sigemptyset(&ending);
  (void)sigaddset(&ending, SIGTERM);
  (void)sigaddset(&ending, SIGINT);
  const int until = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
  if (until < 0 || sigprocmask(SIG_BLOCK, &ending, NULL) != 0 ||
      signal(SIGHUP, SIG_IGN) == SIG_ERR) {
    return host_fail_errno("cannot wait for signals");
  }
  (void)setsid(); /* fails only where it leads a session already */
  if (chdir("/") != 0) return host_fail_errno("cannot enter /");
  int status = 0;
  const int listener = listen_there(&status);
  if (listener < 0) return status;
  if (!host_say_started()) return host_fail_errno("cannot tell that it has started");
  relay_run(&(struct relay_options){
      .listener = listener,
      .until = until,
      .directory = directory,
      .file = name + 1,
      .idle_ms = IDLE_MS,
      .on_end = remove_socket,
  });
}
