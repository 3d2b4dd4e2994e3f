// Pipes, terminals and other descriptors; watching them is in loop.c.
#include "sys.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static SYS_FUNCTION(sys_pipe) {
  struct args a;
  int ends[2];
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int flags = args_int(&a);
  if (a.failed || pipe2(ends, flags | O_CLOEXEC)) return args_answer(&a, -1);
  args_free(&a);
  return answer_pair(ctx, ends[0], ends[1]);
}

static SYS_FUNCTION(sys_dup) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static SYS_FUNCTION(sys_set_nonblocking) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  int flags = a.failed ? -1 : fcntl(fd, F_GETFL);
  return args_answer(&a, flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

static SYS_FUNCTION(sys_set_pipe_size) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), bytes = args_int(&a);
  return args_answer(&a, a.failed ? -1 : fcntl(fd, F_SETPIPE_SZ, bytes));
}

static int set_window_size(int fd, int columns, int rows) {
  struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
  return ioctl(fd, TIOCSWINSZ, &size);
}

// TIOCGPTPEER opens the slave without a path, so a /dev/pts that is not the agent's does not matter.
static SYS_FUNCTION(sys_open_pty) {
  struct args a;
  int unlocked = 0, slave = -1;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int columns = args_int(&a), rows = args_int(&a);
  if (a.failed) return args_answer(&a, -1);
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (master < 0) return args_answer(&a, -1);
  if (ioctl(master, TIOCSPTLCK, &unlocked) == 0) {
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  if (slave < 0 || set_window_size(master, columns, rows)) {
    int error = errno;
    if (slave >= 0) close(slave);
    close(master);
    errno = error;
    return args_answer(&a, -1);
  }
  args_free(&a);
  return answer_pair(ctx, master, slave);
}

static SYS_FUNCTION(sys_set_window_size) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), columns = args_int(&a), rows = args_int(&a);
  return args_answer(&a, a.failed ? -1 : set_window_size(fd, columns, rows));
}

static SYS_FUNCTION(sys_poll) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  struct pollfd watched = {.fd = args_int(&a)};
  watched.events = (short)args_int(&a);
  int timeout = args_int(&a);
  int count = a.failed ? -1 : poll(&watched, 1, timeout);
  return args_answer(&a, count > 0 ? (unsigned short)watched.revents : count);
}

static SYS_FUNCTION(sys_inotify_init) {
  SYS_UNUSED;
  return answer(ctx, inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
}

static SYS_FUNCTION(sys_inotify_add_watch) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  const char *path = args_text(&a);
  uint32_t mask = (uint32_t)args_int64(&a);
  return args_answer(&a, a.failed ? -1 : inotify_add_watch(fd, path, mask));
}

static SYS_FUNCTION(sys_inotify_remove_watch) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), watch = args_int(&a);
  return args_answer(&a, a.failed ? -1 : inotify_rm_watch(fd, watch));
}

const JSCFunctionListEntry sys_descriptors[] = {
    SYS_ENTRY("pipe", 1, sys_pipe),
    SYS_ENTRY("dup", 1, sys_dup),
    SYS_ENTRY("setNonblocking", 1, sys_set_nonblocking),
    SYS_ENTRY("setPipeSize", 2, sys_set_pipe_size),
    SYS_ENTRY("openPty", 2, sys_open_pty),
    SYS_ENTRY("setWindowSize", 3, sys_set_window_size),
    SYS_ENTRY("poll", 3, sys_poll),
    SYS_ENTRY("inotifyInit", 0, sys_inotify_init),
    SYS_ENTRY("inotifyAddWatch", 3, sys_inotify_add_watch),
    SYS_ENTRY("inotifyRemoveWatch", 2, sys_inotify_remove_watch),
};
const int sys_descriptors_count = sizeof sys_descriptors / sizeof sys_descriptors[0];
