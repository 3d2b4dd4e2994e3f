/*
 * Verbs about processes. One is named by its number and its start time, and acted on through a
 * descriptor of it, so that nothing ever hits another process that has got the number since.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STAT_BYTES_MAX 4096
#define PID_MAX 4194304u
#define SIGNAL_LAST 64
#define TIMEOUT_MS_MAX 600000

/* Fields of /proc/PID/stat from the third on; the second may hold anything. NULL where it ended. */
static char *read_stat(int pid, char *text, size_t size) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (host_read_file(path, text, size) <= 0) return NULL;
  char *end = strrchr(text, ')');
  return end == NULL || end[1] != ' ' ? NULL : end + 2;
}

/* A field by its number in proc_pid_stat(5), 4 and following. */
static uint64_t stat_field(char *fields, int number) {
  for (int i = 3; i < number; i++) {
    fields = strchr(fields, ' ');
    if (fields == NULL) return 0;
    fields++;
  }
  return strtoull(fields, NULL, 10);
}

uint64_t host_start_time(int pid) {
  char text[STAT_BYTES_MAX];
  char *fields = read_stat(pid, text, sizeof text);
  if (fields == NULL || fields[0] == 'Z' || fields[0] == 'X') return 0;
  return stat_field(fields, 22);
}

struct process {
  int pid;
  uint64_t start_time;
};

static bool parse_process(char **argv, struct process *process) {
  uint64_t pid = 0;
  if (!host_parse_number(argv[0], PID_MAX, &pid) || pid == 0) return false;
  process->pid = (int)pid;
  return host_parse_number(argv[1], UINT64_MAX, &process->start_time) && process->start_time > 0;
}

static int usage(const char *verb) {
  return host_fail(CODE_INVALID_ARGUMENT, "wrong arguments for \"%s\"", verb);
}

/* A descriptor of the process; -1 where it has ended. Other failures leave errno. */
static int open_process(const struct process *process) {
  const int fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
  if (fd < 0) return -1;
  if (host_start_time(process->pid) == process->start_time) return fd;
  (void)close(fd);
  errno = ESRCH;
  return -1;
}

static int say(const char *text) {
  return write(STDOUT_FILENO, text, strlen(text)) == (ssize_t)strlen(text)
             ? 0
             : host_fail_errno("cannot write the answer");
}

int host_identity(int argc, char **argv) {
  uint64_t pid = 0;
  if (argc != 2 || !host_parse_number(argv[1], PID_MAX, &pid) || pid == 0) return usage(argv[0]);
  char line[32];
  (void)snprintf(line, sizeof line, "%llu\n", (unsigned long long)host_start_time((int)pid));
  return say(line);
}

int host_alive(int argc, char **argv) {
  struct process process;
  if (argc != 3 || !parse_process(argv + 1, &process)) return usage(argv[0]);
  return say(host_start_time(process.pid) == process.start_time ? "yes\n" : "no\n");
}

static int send_signal(const struct process *process, int fd, int signal) {
  if (syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) == 0 || errno == ESRCH) return 0;
  return host_fail_errno("cannot send signal %d to process %d", signal, process->pid);
}

int host_signal(int argc, char **argv) {
  struct process process;
  uint64_t signal = 0;
  if (argc != 4 || !parse_process(argv + 1, &process) ||
      !host_parse_number(argv[3], SIGNAL_LAST, &signal)) {
    return usage(argv[0]);
  }
  const int fd = open_process(&process);
  if (fd < 0 && errno == ESRCH) return say("gone\n");
  if (fd < 0) return host_fail_errno("cannot open process %d", process.pid);
  const int status = send_signal(&process, fd, (int)signal);
  return status != 0 ? status : say("sent\n");
}

/* Whether a process ended in time; -1 with errno. Also ends when the parent of this one does. */
static int wait_for(int fd, int timeout_ms) {
  const int parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
  struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = parent, .events = POLLIN}};
  struct timespec start;
  (void)clock_gettime(CLOCK_MONOTONIC, &start);
  for (int left = timeout_ms;;) {
    const int ready = poll(polled, 2, left);
    if (ready < 0 && errno != EINTR) return -1;
    if (polled[0].revents != 0) return 1;
    if (ready == 0 || polled[1].revents != 0) return 0;
    if (timeout_ms < 0) continue;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const long passed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    left = passed >= timeout_ms ? 0 : timeout_ms - (int)passed;
  }
}

int host_kill(int argc, char **argv) {
  struct process process;
  uint64_t timeout = 0;
  if (argc != 4 || !parse_process(argv + 1, &process) ||
      !host_parse_number(argv[3], TIMEOUT_MS_MAX, &timeout)) {
    return usage(argv[0]);
  }
  const int fd = open_process(&process);
  if (fd < 0 && errno == ESRCH) return 0;
  if (fd < 0) return host_fail_errno("cannot open process %d", process.pid);
  const int status = send_signal(&process, fd, SIGKILL);
  if (status != 0) return status;
  const int ended = wait_for(fd, (int)timeout);
  if (ended < 0) return host_fail_errno("cannot wait for process %d", process.pid);
  if (ended == 1) return 0;
  return host_fail(CODE_DEADLINE_EXCEEDED, "cannot kill process %d: it has not ended after %d ms",
                   process.pid, (int)timeout);
}

int host_wait(int argc, char **argv) {
  struct process process;
  if (argc != 3 || !parse_process(argv + 1, &process)) return usage(argv[0]);
  const int fd = open_process(&process);
  if (fd < 0 && errno == ESRCH) return 0;
  if (fd < 0) return host_fail_errno("cannot open process %d", process.pid);
  if (wait_for(fd, -1) >= 0) return 0;
  return host_fail_errno("cannot wait for process %d", process.pid);
}

int host_process_usage(int argc, char **argv) {
  struct process process;
  if (argc != 3 || !parse_process(argv + 1, &process)) return usage(argv[0]);
  char text[STAT_BYTES_MAX];
  char *fields = read_stat(process.pid, text, sizeof text);
  if (fields == NULL || stat_field(fields, 22) != process.start_time) return 0;
  const uint64_t ticks = stat_field(fields, 14) + stat_field(fields, 15);
  const uint64_t ticks_per_second = (uint64_t)sysconf(_SC_CLK_TCK);
  char answer[256];
  (void)snprintf(answer, sizeof answer, "cpu_ns %llu\nresident_bytes %llu\nthreads %llu\n",
                 (unsigned long long)(ticks * (1000000000u / ticks_per_second)),
                 (unsigned long long)(stat_field(fields, 24) * (uint64_t)sysconf(_SC_PAGESIZE)),
                 (unsigned long long)stat_field(fields, 20));
  return say(answer);
}

/* In a process of its own: watches, and never returns. */
_Noreturn static void watch(int self, int parent) {
  (void)prctl(PR_SET_NAME, "quasaur-watch", 0, 0, 0);
  (void)setsid();
  struct pollfd polled[] = {{.fd = self, .events = POLLIN}, {.fd = parent, .events = POLLIN}};
  for (;;) {
    if (poll(polled, 2, -1) < 0 && errno != EINTR) _exit(1);
    if (polled[0].revents != 0) _exit(0);
    if (polled[1].revents == 0) continue;
    (void)syscall(SYS_pidfd_send_signal, self, SIGKILL, NULL, 0);
    _exit(0);
  }
}

int host_die_with_parent(void) {
  const int parent_pid = getppid();
  const int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  const int parent = (int)syscall(SYS_pidfd_open, parent_pid, 0);
  /* Had it ended before it was opened, this process had another one now. */
  if (self < 0 || parent < 0 || getppid() != parent_pid) {
    if (errno == 0) errno = ESRCH;
    return -1;
  }
  /* A child of a child: what this process becomes shall not find children that it knows nothing of. */
  const pid_t between = fork();
  if (between < 0) return -1;
  if (between == 0) {
    const pid_t watcher = fork();
    if (watcher != 0) _exit(watcher < 0 ? 1 : 0);
    /* Only to signal: by the right to, where it is another user's in the end. */
    (void)host_keep_capabilities(geteuid() == 0 ? 1ull << 5 /* CAP_KILL */ : 0);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) (void)dup2(null, fd);
    for (int fd = 3; fd < 256; fd++) {
      if (fd != self && fd != parent) (void)close(fd);
    }
    watch(self, parent);
  }
  (void)close(self);
  (void)close(parent);
  int status = 0;
  while (waitpid(between, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  errno = EAGAIN;
  return -1;
}
