/*
 * `terminal`: moves bytes between the terminal of a process and the FIFOs of its client. A runtime
 * makes the terminal and sends its master over the console socket (OCI runtimes, --console-socket);
 * somebody must have it for as long as the process lives, also while the sandboxer is restarted.
 *
 *     quasaur-host-launcher terminal SOCKET IN OUT CONTROL COLUMNS ROWS
 *
 * IN and OUT are absolute paths, or "-" for nothing. The CONTROL FIFO is made here and takes a line
 * for each command: `COLUMNS ROWS` sets the size (0 0: unknown), `close` lets the input end when
 * nobody else has it open for writing (until then it has no end), and `signals PID CONTAINER SOCKET`
 * says whom signals that are typed are for: the foreground of a process in gVisor, whose control
 * socket is told of them, as its kernel does not see what the host's terminal makes of ^C. The process ends, and takes the
 * socket and the FIFO away, when the terminal has ended and what came of it was written; a reader
 * that reads nothing for half a minute then loses the rest. With `end` a terminal has ended as soon
 * as nothing comes of it for a moment: its process has, and others have it open for who knows how long.
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define CONNECT_MS (2 * 60 * 1000) /* until the runtime has sent the terminal */
#define RECEIVE_MS (10 * 1000) /* from its connection on */
#define FLUSH_MS (30 * 1000)
#define QUIET_MS 200
#define IN_BYTES 4096
#define OUT_BYTES 16384
#define LINE_BYTES 512
#define SIGNAL_SECONDS_MAX 2
#define ID_BYTES_MAX 160
/* SignalDeliveryMode of runsc/boot/controller.go: to the foreground process group. */
#define MODE_FOREGROUND 2
#define SIZE_MAX_CELLS 65535

struct buffer {
  size_t at;
  size_t end;
};

static struct {
  const char *control_path;
  struct sockaddr_un address;
  int listener;
  int control;
  int in;
  int in_hold; /* keeps the input from ending; -1 once it may */
  int out;
  int master;
  struct winsize size;
  bool out_broken;
  bool is_ending;
} terminal = {
    .listener = -1, .control = -1, .in = -1, .in_hold = -1, .out = -1, .master = -1};

/* Whom typed signals are for; pid 0 is a container's first process. */
static struct {
  bool is_known;
  uint64_t pid;
  char container[ID_BYTES_MAX];
  struct sockaddr_un socket;
} target;
static int typed_signals = -1;

static struct buffer in;
static struct buffer out;
static char in_bytes[IN_BYTES];
static char out_bytes[OUT_BYTES];
static char line[LINE_BYTES];
static size_t line_length;

static bool would_wait(void) { return errno == EAGAIN || errno == EINTR; }

static void close_it(int *fd) {
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
}

static void remove_files(void) {
  (void)unlink(terminal.address.sun_path);
  (void)unlink(terminal.control_path);
}

static void apply_size(void) {
  if (terminal.master < 0 || (terminal.size.ws_col == 0 && terminal.size.ws_row == 0)) return;
  (void)ioctl(terminal.master, TIOCSWINSZ, &terminal.size);
}

static bool parse_size(const char *columns, const char *rows) {
  uint64_t cells[2] = {0, 0};
  if (!host_parse_number(columns, SIZE_MAX_CELLS, &cells[0])) return false;
  if (!host_parse_number(rows, SIZE_MAX_CELLS, &cells[1])) return false;
  terminal.size.ws_col = (unsigned short)cells[0];
  terminal.size.ws_row = (unsigned short)cells[1];
  return true;
}

static bool is_id(const char *text) {
  const size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
  return length > 0 && text[length] == '\0' && length < ID_BYTES_MAX;
}

/* Tells the sandbox. What goes wrong is as if the signal had not been typed. */
static void forward(uint32_t signo) {
  char request[ID_BYTES_MAX + 160];
  const int length = snprintf(
      request, sizeof request,
      "{\"method\":\"containerManager.Signal\",\"arg\":{\"CID\":\"%s\",\"Signo\":%u,\"PID\":%llu,"
      "\"Mode\":%d}}",
      target.container, signo, (unsigned long long)target.pid, MODE_FOREGROUND);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const struct timeval patience = {.tv_sec = SIGNAL_SECONDS_MAX};
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  char answer[256];
  if (connect(fd, (const struct sockaddr *)&target.socket, sizeof target.socket) == 0 &&
      send(fd, request, (size_t)length, MSG_NOSIGNAL) == length) {
    /* The next signal must not overtake it. */
    const ssize_t got = read(fd, answer, sizeof answer);
    (void)got;
  }
  close_it(&fd);
}

static void read_signals(void) {
  struct signalfd_siginfo typed;
  while (read(typed_signals, &typed, sizeof typed) == (ssize_t)sizeof typed) {
    if (target.is_known) forward(typed.ssi_signo);
  }
}

/* Has what is typed as a signal come here: to the one whose terminal it is, for the host. */
static void control_it(int master) {
  sigset_t set;
  (void)sigemptyset(&set);
  (void)sigaddset(&set, SIGINT);
  (void)sigaddset(&set, SIGQUIT);
  (void)sigaddset(&set, SIGTSTP);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return;
  typed_signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return;
  /* Where it is another session's already, as of a sandbox's first process, that gets them. */
  (void)ioctl(slave, TIOCSCTTY, 0);
  /* Its end must be seen when the sandbox has closed it. */
  close_it(&slave);
}

static void aim(char *text) {
  char *rest = text;
  const char *pid = strsep(&rest, " ");
  const char *container = strsep(&rest, " ");
  if (rest == NULL || container == NULL || !is_id(container) || !host_is_plain_path(rest)) return;
  if (strlen(rest) >= sizeof target.socket.sun_path) return;
  if (!host_parse_number(pid, INT32_MAX, &target.pid)) return;
  (void)strcpy(target.container, container);
  (void)strcpy(target.socket.sun_path, rest);
  target.socket.sun_family = AF_UNIX;
  if (!target.is_known && terminal.master >= 0) control_it(terminal.master);
  target.is_known = true;
}

static void obey(void) {
  if (strcmp(line, "close") == 0) {
    close_it(&terminal.in_hold);
    return;
  }
  if (strncmp(line, "signals ", 8) == 0) {
    aim(line + 8);
    return;
  }
  if (strcmp(line, "end") == 0) {
    terminal.is_ending = true;
    return;
  }
  char *space = strchr(line, ' ');
  if (space == NULL) return;
  *space = '\0';
  if (parse_size(line, space + 1)) apply_size();
}

static void read_control(void) {
  char bytes[256];
  const ssize_t got = read(terminal.control, bytes, sizeof bytes);
  for (ssize_t i = 0; i < got; i++) {
    if (bytes[i] != '\n') {
      /* A line that is too long is none: its end is then not that of a command. */
      if (line_length < sizeof line - 1) line[line_length] = bytes[i];
      if (line_length < sizeof line) line_length++;
      continue;
    }
    if (line_length < sizeof line) {
      line[line_length] = '\0';
      obey();
    }
    line_length = 0;
  }
}

static void read_input(void) {
  const ssize_t got = read(terminal.in, in_bytes, sizeof in_bytes);
  if (got < 0 && would_wait()) return;
  if (got > 0) in = (struct buffer){.at = 0, .end = (size_t)got};
  else close_it(&terminal.in);
}

static void write_input(void) {
  const ssize_t put = write(terminal.master, in_bytes + in.at, in.end - in.at);
  if (put > 0) in.at += (size_t)put;
  /* It has ended; reading tells. */
  else if (!would_wait()) in.at = in.end;
}

/* False at the terminal's end. */
static bool read_output(void) {
  const ssize_t got = read(terminal.master, out_bytes, sizeof out_bytes);
  if (got > 0) out = (struct buffer){.at = 0, .end = (size_t)got};
  return got > 0 || (got < 0 && would_wait());
}

static void write_output(void) {
  const ssize_t put =
      terminal.out_broken ? (ssize_t)(out.end - out.at)
                          : write(terminal.out, out_bytes + out.at, out.end - out.at);
  if (put > 0) {
    out.at += (size_t)put;
  } else if (!would_wait()) {
    /* The process goes on; what it writes is thrown away. */
    terminal.out_broken = true;
    out.at = out.end;
  }
}

/* Moves bytes until the terminal has ended. */
static void move(void) {
  for (;;) {
    const bool has_in = in.at < in.end;
    const bool has_out = out.at < out.end;
    struct pollfd polled[] = {
        {.fd = terminal.control, .events = POLLIN},
        {.fd = has_in ? -1 : terminal.in, .events = POLLIN},
        {.fd = has_out ? terminal.out : -1, .events = POLLOUT},
        /* One that has hung up says so whatever is asked: it is not asked while it must wait. */
        {.fd = has_out && !has_in ? -1 : terminal.master,
         .events = (short)((has_out ? 0 : POLLIN) | (has_in ? POLLOUT : 0))},
        {.fd = typed_signals, .events = POLLIN},
    };
    const bool is_last = terminal.is_ending && !has_out;
    const int ready = poll(polled, sizeof polled / sizeof polled[0], is_last ? QUIET_MS : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || (ready == 0 && is_last)) return;
    if (polled[0].revents != 0) read_control();
    if (polled[4].revents != 0) read_signals();
    if (polled[1].revents != 0) read_input();
    if (polled[2].revents != 0) write_output();
    const short master = polled[3].revents;
    if (has_in && (master & (POLLOUT | POLLERR | POLLHUP)) != 0) write_input();
    if (!has_out && (master & (POLLIN | POLLERR | POLLHUP)) != 0 && !read_output()) return;
  }
}

/* What came before the end is still to be written. */
static void flush(void) {
  while (out.at < out.end) {
    struct pollfd polled = {.fd = terminal.out, .events = POLLOUT};
    const int ready = poll(&polled, 1, FLUSH_MS);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return;
    write_output();
  }
}

/* Takes the terminal from a connection; -1 where none came. */
static int receive(int connection) {
  struct pollfd polled = {.fd = connection, .events = POLLIN};
  if (poll(&polled, 1, RECEIVE_MS) != 1) return -1;
  char name[64];
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } ancillary;
  struct iovec vector = {.iov_base = name, .iov_len = sizeof name};
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = ancillary.bytes,
                           .msg_controllen = sizeof ancillary.bytes};
  if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) < 0) return -1;
  const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int))) {
    return -1;
  }
  int fd = -1;
  (void)memcpy(&fd, CMSG_DATA(header), sizeof fd);
  struct winsize size;
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0) return fd;
  (void)close(fd);
  return -1;
}

/* Waits for the runtime. Commands are obeyed meanwhile. */
static bool await_terminal(void) {
  while (terminal.master < 0 && !terminal.is_ending) {
    struct pollfd polled[] = {
        {.fd = terminal.listener, .events = POLLIN},
        {.fd = terminal.control, .events = POLLIN},
    };
    const int ready = poll(polled, 2, CONNECT_MS);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    if (polled[1].revents != 0) read_control();
    if (polled[0].revents == 0) continue;
    int connection = accept4(terminal.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) continue;
    terminal.master = receive(connection);
    apply_size();
    /* Who waits for this knows that all is as it should be. */
    close_it(&connection);
  }
  close_it(&terminal.listener);
  (void)unlink(terminal.address.sun_path);
  return terminal.master >= 0;
}

static int listen_there(void) {
  (void)umask(0177);
  terminal.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const struct sockaddr *address = (const struct sockaddr *)&terminal.address;
  if (terminal.listener < 0 || bind(terminal.listener, address, sizeof terminal.address) != 0) {
    return host_fail_errno("cannot listen at \"%s\"", terminal.address.sun_path);
  }
  if (listen(terminal.listener, 1) == 0) return 0;
  const int status = host_fail_errno("cannot listen at \"%s\"", terminal.address.sun_path);
  (void)unlink(terminal.address.sun_path);
  return status;
}

static int open_control(void) {
  if (mkfifo(terminal.control_path, 0600) != 0) {
    return host_fail_errno("cannot make the FIFO \"%.500s\"", terminal.control_path);
  }
  terminal.control = open(terminal.control_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (terminal.control >= 0) return 0;
  const int status = host_fail_errno("cannot open the FIFO \"%.500s\"", terminal.control_path);
  (void)unlink(terminal.control_path);
  return status;
}

static int open_streams(const char *input, const char *output) {
  int status = host_open_stream(STDIN_FILENO, input, &terminal.in);
  if (status != 0) return status;
  if ((status = host_open_stream(STDOUT_FILENO, output, &terminal.out)) != 0) return status;
  struct stat found;
  if (fstat(terminal.in, &found) != 0 || !S_ISFIFO(found.st_mode)) return 0;
  terminal.in_hold = open(input, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  return terminal.in_hold >= 0 ? 0 : host_fail_errno("cannot hold stdin \"%.500s\"", input);
}

static int parse(int argc, char **argv) {
  if (argc != 7 || !host_is_plain_path(argv[1]) || !host_is_plain_path(argv[4]) ||
      !parse_size(argv[5], argv[6]) || strlen(argv[1]) >= sizeof terminal.address.sun_path) {
    return host_fail(CODE_INVALID_ARGUMENT,
                     "expected four absolute paths, the first of at most %zu bytes, and a size",
                     sizeof terminal.address.sun_path - 1);
  }
  terminal.address.sun_family = AF_UNIX;
  (void)strcpy(terminal.address.sun_path, argv[1]);
  terminal.control_path = argv[4];
  return 0;
}

int host_terminal(int argc, char **argv) {
  int status = parse(argc, argv);
  if (status != 0) return status;
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return host_fail_errno("cannot close files");
  if ((status = open_streams(argv[2], argv[3])) != 0) return status;
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0) return host_fail_errno("cannot open /dev/null");
  if (signal(SIGHUP, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    return host_fail_errno("cannot ignore signals");
  }
  (void)setsid(); /* fails only where it leads a session already */
  if (chdir("/") != 0) return host_fail_errno("cannot enter /");
  if ((status = open_control()) != 0) return status;
  if ((status = listen_there()) != 0) {
    (void)unlink(terminal.control_path);
    return status;
  }
  /* The two files are removed in directories that are this user's: nothing else is needed. */
  (void)host_keep_capabilities(0);
  if (!host_say_started()) {
    status = host_fail_errno("cannot tell that it has started");
    remove_files();
    return status;
  }
  for (int fd = 0; fd < 3; fd++) (void)dup2(nowhere, fd);
  if (await_terminal()) {
    move();
    flush();
  }
  remove_files();
  return 0;
}
