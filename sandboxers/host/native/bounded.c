/*
 * `bounded`: runs a program for a bounded time.
 *
 *     quasaur-host-launcher bounded MILLISECONDS -- PROGRAM ARGS...
 *
 * Where the program ends in time, its exit status is this one's (128 and the signal where it was
 * killed), and what it has left running goes on. Where it does not, or where this process is told to
 * end (SIGTERM), or where the one that started it ends, the program is killed with all that it
 * started, also what has detached itself: a runsc that is merely killed leaves a sandbox that nobody
 * knows of.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define LIST_BYTES_MAX 65536
/* Killed processes end within milliseconds; one in the middle of I/O is not waited for. */
#define KILL_ROUNDS_MAX 200
#define KILL_PAUSE_NS 10000000L
/* How often is looked whether the parent lives: the next one must not be overtaken by what it began. */
#define PARENT_MS 50
#define TIME_MS_MAX (24ull * 60 * 60 * 1000)

/* Kills every child that there is now; their own children come here then. */
static bool kill_children(void) {
  char path[64];
  static char list[LIST_BYTES_MAX];
  (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  if (host_read_file(path, list, sizeof list) < 0) return false;
  char *rest = list;
  for (char *word; (word = strsep(&rest, " \n")) != NULL;) {
    const int pid = atoi(word);
    if (pid > 0) (void)kill(pid, SIGKILL);
  }
  return true;
}

/* Kills all descendants. Nobody else reaps them, so no number is another process's meanwhile. */
static int kill_all(pid_t program) {
  for (int round = 0; round < KILL_ROUNDS_MAX; round++) {
    if (!kill_children()) (void)kill(program, SIGKILL);
    for (;;) {
      const pid_t ended = waitpid(-1, NULL, WNOHANG);
      if (ended < 0 && errno == ECHILD) return 0;
      if (ended <= 0) break;
    }
    const struct timespec pause = {0, KILL_PAUSE_NS};
    (void)nanosleep(&pause, NULL);
  }
  return -1;
}

static int64_t now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int status_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static _Noreturn void become(char **argv, const sigset_t *before) {
  (void)sigprocmask(SIG_SETMASK, before, NULL);
  (void)execve(argv[0], argv, environ);
  _exit(host_fail_errno("cannot execute \"%.500s\"", argv[0]));
}

/* Waits for the program. True where it ended; false where it is to be killed. */
static bool wait_for(pid_t program, uint64_t most_ms, const sigset_t *signals, int *status,
                     bool *late) {
  const int64_t deadline = now_ms() + (int64_t)most_ms;
  const pid_t parent = getppid();
  for (;;) {
    for (;;) {
      int ended_status = 0;
      const pid_t ended = waitpid(-1, &ended_status, WNOHANG);
      if (ended <= 0) break;
      if (ended != program) continue; /* an orphan of it */
      *status = status_of(ended_status);
      return true;
    }
    const int64_t left = deadline - now_ms();
    *late = left <= 0;
    if (left <= 0) return false;
    const int64_t pause = left < PARENT_MS ? left : PARENT_MS;
    const struct timespec timeout = {0, pause * 1000000};
    const int got = sigtimedwait(signals, NULL, &timeout);
    if (got == SIGTERM || getppid() != parent) return false;
  }
}

int host_bounded(int argc, char **argv) {
  uint64_t most_ms = 0;
  if (argc < 4 || !host_parse_number(argv[1], TIME_MS_MAX, &most_ms) ||
      strcmp(argv[2], "--") != 0 || argv[3][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "expected: bounded MILLISECONDS -- PROGRAM ARGS...");
  }
  const int refusal = host_check_own_program(argv[3]);
  if (refusal != 0) return refusal;
  sigset_t signals;
  sigset_t before;
  (void)sigemptyset(&signals);
  (void)sigaddset(&signals, SIGTERM);
  (void)sigaddset(&signals, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &signals, &before) != 0 ||
      prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    return host_fail_errno("cannot prepare to run \"%.500s\"", argv[3]);
  }
  const pid_t program = fork();
  if (program < 0) return host_fail_errno("cannot start \"%.500s\"", argv[3]);
  if (program == 0) become(argv + 3, &before);
  int status = 0;
  bool late = false;
  if (wait_for(program, most_ms, &signals, &status, &late)) return status;
  const int killed = kill_all(program);
  if (killed != 0) return host_fail(CODE_INTERNAL, "cannot kill what \"%.500s\" started", argv[3]);
  if (!late) return host_fail(CODE_DEADLINE_EXCEEDED, "\"%.500s\" was ended early", argv[3]);
  return host_fail(CODE_DEADLINE_EXCEEDED, "\"%.500s\" did not end within %llu ms", argv[3],
                   (unsigned long long)most_ms);
}
