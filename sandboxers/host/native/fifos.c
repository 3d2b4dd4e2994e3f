/*
 * `fifos`: holds FIFOs open while no sandboxer is there. A client of a FIFO that finds nobody at its
 * other end takes that for the end of the stream (containerd then reads a container's output no
 * more), so a sandboxer that is killed and started again must not be the only one who has it open.
 *
 *     quasaur-host-launcher fifos
 *
 * Commands come on standard input, a line each: `+w PATH` and `+r PATH` open a FIFO to be written or
 * read, `-w PATH` and `-r PATH` close it. Nothing is ever written or read. After the end of its input
 * it goes on until no client has any of them open, at most a quarter of an hour.
 *
 * In the same way it keeps questions whose answers come once only, such as how a process of a sandbox
 * has ended: `+a FILE TAB SOCKET TAB REQUEST` asks at a unix socket, `-a FILE` forgets that. What was
 * answered is written to the file with `=a FILE`, and after the end of its input: until then the
 * sandboxer has asked too.
 */
#define _GNU_SOURCE
#include "answers.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIFOS_MAX 4096
#define PIPE_BYTES (1 << 20) /* what everybody may have (pipe-max-size) */
#define ALONE_SECONDS (15 * 60)

struct held {
  char *path;
  int fd;
  char end; /* 'r' or 'w'; 'a' for a question, whose path is where its answer goes */
};

static struct held fifos[FIFOS_MAX];
static size_t count;
static char input[2 * HOST_PATH_BYTES_MAX];
static size_t filled;

static void let_go(size_t index) {
  (void)close(fifos[index].fd);
  free(fifos[index].path);
  fifos[index] = fifos[--count];
}

/* A FIFO that cannot be held is not: its stream then ends with the sandboxer. */
static void hold(char end, const char *path) {
  if (count == FIFOS_MAX) return;
  const int access = end == 'w' ? O_WRONLY : O_RDONLY;
  const int fd = open(path, access | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  struct stat status;
  char *copy = strdup(path);
  if (copy == NULL || fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) {
    free(copy);
    (void)close(fd);
    return;
  }
  /* A writer that can only look again and again loses less by a reader that is slow for a moment. */
  (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
  fifos[count++] = (struct held){.path = copy, .fd = fd, .end = end};
}

/* Cuts a text at its first tab. What is behind that, or NULL. */
static char *cut(char *text) {
  char *tab = strchr(text, '\t');
  if (tab == NULL) return NULL;
  *tab = '\0';
  return tab + 1;
}

/* A question that cannot be asked is not kept: its answer is then lost with the sandboxer. */
static void ask(char *path) {
  char *socket_path = cut(path);
  const char *request = socket_path == NULL ? NULL : cut(socket_path);
  if (request == NULL || count == FIFOS_MAX || !host_is_plain_path(path)) return;
  char *copy = strdup(path);
  const int fd = copy == NULL ? -1 : host_ask(socket_path, request);
  if (fd < 0) {
    free(copy);
    return;
  }
  fifos[count++] = (struct held){.path = copy, .fd = fd, .end = 'a'};
}

static void obey(char *line) {
  const char sign = line[0];
  const char end = sign == '\0' ? '\0' : line[1];
  if (end == '\0' || strchr("rwa", end) == NULL || line[2] != ' ') return;
  if (sign == '+' && end == 'a') {
    ask(line + 3);
    return;
  }
  if (!host_is_plain_path(line + 3)) return;
  if (sign == '+') {
    hold(end, line + 3);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    if (fifos[i].end != end || strcmp(fifos[i].path, line + 3) != 0) continue;
    if (sign == '=' && end == 'a') host_keep_answer(fifos[i].fd, fifos[i].path);
    if (sign == '-') let_go(i);
    return;
  }
}

/* Reads commands; false at the end. */
static bool read_commands(void) {
  const ssize_t got = read(STDIN_FILENO, input + filled, sizeof input - 1 - filled);
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) return false;
  filled += (size_t)got;
  input[filled] = '\0';
  char *line = input;
  for (char *end = strchr(line, '\n'); end != NULL; end = strchr(line, '\n')) {
    *end = '\0';
    obey(line);
    line = end + 1;
  }
  filled -= (size_t)(line - input);
  /* A line that is longer than any path is none. */
  if (filled == sizeof input - 1) filled = 0;
  memmove(input, line, filled);
  return true;
}

static time_t seconds(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec;
}

/* Until no client is left, and all is answered. */
static void stay_alone(void) {
  static struct pollfd polled[FIFOS_MAX];
  const time_t until = seconds() + ALONE_SECONDS;
  while (count > 0 && seconds() < until) {
    for (size_t i = 0; i < count; i++) polled[i] = (struct pollfd){.fd = fifos[i].fd};
    /*
     * An error is reported where no reader is left, a hang-up where no writer is, and where who was
     * asked has answered and closed the connection.
     */
    if (poll(polled, count, 60 * 1000) < 0 && errno != EINTR) return;
    for (size_t i = count; i-- > 0;) {
      if ((polled[i].revents & (POLLERR | POLLHUP | POLLNVAL)) == 0) continue;
      if (fifos[i].end == 'a') host_keep_answer(fifos[i].fd, fifos[i].path);
      let_go(i);
    }
  }
}

int host_fifos(int argc, char **argv) {
  (void)argv;
  if (argc != 1) return host_fail(CODE_INVALID_ARGUMENT, "expected no arguments");
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return host_fail_errno("cannot close files");
  /* Many containers may have three streams each. */
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere < 0) return host_fail_errno("cannot open /dev/null");
  if (signal(SIGHUP, SIG_IGN) == SIG_ERR) return host_fail_errno("cannot ignore SIGHUP");
  (void)setsid(); /* fails only where it leads a session already */
  if (chdir("/") != 0) return host_fail_errno("cannot enter /");
  /* All it needs is to open FIFOs; where it may not give rights up it has none to speak of. */
  (void)host_keep_capabilities(1ull << CAP_DAC_OVERRIDE);
  if (!host_say_started()) return host_fail_errno("cannot tell that it has started");
  if (dup2(nowhere, STDOUT_FILENO) < 0 || dup2(nowhere, STDERR_FILENO) < 0) return 1;
  while (read_commands()) {
  }
  stay_alone();
  return 0;
}
