/*
 * Tests of guest.c in C, so that they can run under AddressSanitizer and
 * UndefinedBehaviorSanitizer. guest_test.ts builds and runs them. Prints one line a test; ends with
 * 1 at the first failure.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      exit(1); \
    } \
  } while (0)

#define STACK_BYTES (1u << 20)
#define GUARD_BYTES (1u << 20)
#define RECORD_WAIT_MS 20000

static int pipe_fds[2];
static atomic_uint calls;

typedef uint64_t test_function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

static struct quasaur_spec spec_of(test_function *function, uint64_t id) {
  struct quasaur_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.id = id;
  spec.function = (uint64_t)(uintptr_t)function;
  spec.stack_bytes = STACK_BYTES;
  spec.guard_bytes = GUARD_BYTES;
  spec.record_fd = pipe_fds[1];
  strcpy(spec.name, "guest");
  return spec;
}

static struct quasaur_guest *start(const struct quasaur_spec *spec,
                                   const struct quasaur_step *steps, const void *data) {
  int32_t error = -1;
  struct quasaur_guest *guest = quasaur_guest_start(spec, steps, data, &error);
  CHECK(guest != NULL && error == 0);
  return guest;
}

static struct quasaur_record next_record(void) {
  struct quasaur_record record;
  struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
  CHECK(poll(&readable, 1, RECORD_WAIT_MS) == 1);
  CHECK(read(pipe_fds[0], &record, sizeof record) == (ssize_t)sizeof record);
  return record;
}

/* The last record of a guest that was started alone. */
static struct quasaur_record finish(struct quasaur_guest *guest) {
  struct quasaur_record record = next_record();
  if (record.kind == QUASAUR_RUNNING) record = next_record();
  quasaur_guest_release(guest);
  return record;
}

static void sweep_all(void) {
  for (int i = 0; quasaur_sweep() > 0; i++) {
    CHECK(i < 20000);
    usleep(1000);
  }
}

static uint64_t add(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  atomic_fetch_add(&calls, 1);
  return a + b * 10 + c * 100 + d * 1000 + e * 10000 + f * 100000;
}

static void runs_the_function_and_reports(void) {
  struct quasaur_spec spec = spec_of(add, 42);
  for (uint64_t i = 0; i < 6; i++) spec.args[i] = i + 1;
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  const struct quasaur_record running = next_record();
  CHECK(running.kind == QUASAUR_RUNNING && running.id == 42);
  CHECK(running.value > 0 && (pid_t)running.value != getpid());
  const struct quasaur_record returned = next_record();
  CHECK(returned.kind == QUASAUR_RETURNED && returned.id == 42 && returned.value == 654321);
  CHECK(returned.cpu_ns > 0);
  CHECK(quasaur_guest_cpu_ns(guest) == (int64_t)returned.cpu_ns);
  quasaur_guest_release(guest);
}

static void stops_at_the_first_failing_step(void) {
  const struct quasaur_step steps[] = {
      {.number = SYS_getpid},
      {.number = SYS_close, .args = {(uint64_t)-1}},
      {.number = SYS_exit_group, .args = {7}},
  };
  struct quasaur_spec spec = spec_of(add, 1);
  spec.step_count = 3;
  const unsigned before = atomic_load(&calls);
  const struct quasaur_record record = finish(start(&spec, steps, NULL));
  CHECK(record.kind == QUASAUR_REFUSED && record.step == 1 && record.value == EBADF);
  CHECK(atomic_load(&calls) == before);
}

static uint64_t own_name(uint64_t out, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  (void)b, (void)c, (void)d, (void)e, (void)f;
  return (uint64_t)prctl(PR_GET_NAME, out, 0, 0, 0);
}

static void copies_the_data_of_steps(void) {
  char data[] = "01234567renamed";
  struct quasaur_step steps[] = {{.number = SYS_prctl, .args = {PR_SET_NAME, 8}, .data_args = 2}};
  struct quasaur_spec spec = spec_of(own_name, 1);
  char name[17] = "", host[17] = "";
  spec.args[0] = (uint64_t)(uintptr_t)name;
  spec.step_count = 1;
  spec.data_bytes = sizeof data;
  struct quasaur_guest *guest = start(&spec, steps, data);
  memset(data, 'x', sizeof data);
  memset(steps, 0xff, sizeof steps);
  CHECK(finish(guest).kind == QUASAUR_RETURNED);
  CHECK(strcmp(name, "renamed") == 0);
  CHECK(prctl(PR_GET_NAME, host, 0, 0, 0) == 0 && strcmp(host, "renamed") != 0);
}

static int blocker[2];

static uint64_t read_for_ever(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                              uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  char byte;
  return read(blocker[0], &byte, 1) < 0 ? (uint64_t)errno : 0;
}

static void interrupts_a_blocked_call(void) {
  CHECK(pipe2(blocker, O_CLOEXEC) == 0);
  struct quasaur_spec spec = spec_of(read_for_ever, 1);
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  CHECK(next_record().kind == QUASAUR_RUNNING);
  CHECK(quasaur_guest_is_running(guest) == 1);
  struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
  /* The first signals may come before the guest waits, so they are repeated as the host does it. */
  for (int i = 0; poll(&readable, 1, 1) == 0; i++) {
    CHECK(i < RECORD_WAIT_MS);
    const int32_t result = quasaur_guest_interrupt(guest);
    CHECK(result == 0 || result == EAGAIN || result == ESRCH);
  }
  const struct quasaur_record record = next_record();
  CHECK(record.kind == QUASAUR_RETURNED && record.value == EINTR);
  CHECK(quasaur_guest_interrupt(guest) == ESRCH);
  CHECK(quasaur_guest_is_running(guest) == 0);
  quasaur_guest_release(guest);
  close(blocker[0]);
  close(blocker[1]);
}

static void never_signals_a_guest_that_returned(void) {
  struct quasaur_spec spec = spec_of(add, 1);
  struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
  for (int i = 0; i < 300; i++) {
    struct quasaur_guest *guest = start(&spec, NULL, NULL);
    struct quasaur_record record = {.kind = QUASAUR_RUNNING};
    while (record.kind == QUASAUR_RUNNING) {
      while (poll(&readable, 1, 0) == 0) (void)quasaur_guest_interrupt(guest);
      record = next_record();
    }
    CHECK(record.kind == QUASAUR_RETURNED);
    for (int n = 0; n < 10; n++) CHECK(quasaur_guest_interrupt(guest) == ESRCH);
    quasaur_guest_release(guest);
  }
}

static void loses_no_record_when_the_pipe_is_full(void) {
  enum { COUNT = 400 };
  int own[2];
  CHECK(pipe2(own, O_CLOEXEC | O_NONBLOCK) == 0);
  CHECK(fcntl(own[1], F_SETPIPE_SZ, 4096) >= 4096);
  static struct quasaur_guest *guests[COUNT];
  static uint8_t returned[COUNT];
  for (uint64_t i = 0; i < COUNT; i++) {
    struct quasaur_spec spec = spec_of(add, i);
    spec.record_fd = own[1];
    guests[i] = start(&spec, NULL, NULL);
  }
  usleep(100000);
  struct pollfd readable = {.fd = own[0], .events = POLLIN};
  for (int records = 0; records < 2 * COUNT; records++) {
    struct quasaur_record record;
    CHECK(poll(&readable, 1, RECORD_WAIT_MS) == 1);
    CHECK(read(own[0], &record, sizeof record) == (ssize_t)sizeof record);
    CHECK(record.id < COUNT);
    if (record.kind != QUASAUR_RETURNED) continue;
    returned[record.id]++;
    quasaur_guest_release(guests[record.id]);
  }
  for (int i = 0; i < COUNT; i++) CHECK(returned[i] == 1);
  sweep_all();
  close(own[0]);
  close(own[1]);
}

static uint64_t signal_state(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                             uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  return (uint64_t)(sigismember(&mask, SIGTERM) | sigismember(&mask, SIGCHLD) << 1 |
                    sigismember(&mask, SIGRTMIN + 5) << 2 | sigismember(&mask, SIGSEGV) << 3);
}

static void blocks_the_signals_of_the_process(void) {
  struct quasaur_spec spec = spec_of(signal_state, 1);
  CHECK(finish(start(&spec, NULL, NULL)).value == 3);
}

static uint64_t send_signals(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                             uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  uint64_t refused = 0;
  siginfo_t info;
  memset(&info, 0, sizeof info);
  refused += kill(getpid(), SIGKILL) == -1 && errno == EPERM;
  refused += raise(SIGKILL) != 0;
  refused += syscall(SYS_tkill, gettid(), SIGKILL) == -1 && errno == EPERM;
  refused += syscall(SYS_tgkill, getpid(), gettid(), SIGKILL) == -1 && errno == EPERM;
  refused += syscall(SYS_rt_sigqueueinfo, getpid(), SIGKILL, &info) == -1 && errno == EPERM;
  refused += syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGKILL, &info) == -1 &&
             errno == EPERM;
  return refused * 10 + (uint64_t)prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

static void denies_sending_signals(void) {
  struct quasaur_spec spec = spec_of(send_signals, 1);
  CHECK(finish(start(&spec, NULL, NULL)).value == 61);
  CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
  CHECK(kill(getpid(), 0) == 0);
}

static uint64_t own_nice(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  return (uint64_t)getpriority(PRIO_PROCESS, 0);
}

static void sets_nice_of_the_thread_only(void) {
  struct quasaur_spec spec = spec_of(own_nice, 1);
  const int before = getpriority(PRIO_PROCESS, 0);
  spec.nice = 7;
  CHECK(finish(start(&spec, NULL, NULL)).value == 7);
  CHECK(getpriority(PRIO_PROCESS, 0) == before);
}

#define FAULT_STATUS 42

static void on_fault(int number) {
  (void)number;
  _exit(FAULT_STATUS);
}

static volatile uint64_t depth_max = UINT64_MAX;

static uint64_t recurse(uint64_t depth, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                        uint64_t f) {
  volatile char frame[4096];
  frame[depth % sizeof frame] = (char)depth;
  if (depth == depth_max) return 0;
  return recurse(depth + 1, b, c, d, e, f) + (uint64_t)frame[depth % sizeof frame];
}

/* In a child, as it ends with the fault. That the handler runs shows that it has its own stack. */
static void a_stack_overflow_hits_the_guard(void) {
  fflush(stdout);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    action.sa_flags = SA_ONSTACK;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    struct quasaur_spec spec = spec_of(recurse, 1);
    (void)start(&spec, NULL, NULL);
    sleep(30);
    _exit(1);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == FAULT_STATUS);
}

static void refuses_unsound_requests(void) {
  const struct quasaur_step outside = {.number = SYS_chdir, .args = {5}, .data_args = 1};
  int32_t error = 0;
  struct quasaur_spec spec = spec_of(add, 1);
  spec.function = 0;
  CHECK(quasaur_guest_start(&spec, NULL, NULL, &error) == NULL && error == EINVAL);
  spec = spec_of(add, 1);
  spec.stack_bytes = 100;
  CHECK(quasaur_guest_start(&spec, NULL, NULL, &error) == NULL && error == EINVAL);
  spec = spec_of(add, 1);
  memset(spec.name, 'x', sizeof spec.name);
  CHECK(quasaur_guest_start(&spec, NULL, NULL, &error) == NULL && error == EINVAL);
  spec = spec_of(add, 1);
  spec.step_count = 1;
  spec.data_bytes = 5;
  CHECK(quasaur_guest_start(&spec, &outside, (const uint8_t *)"abcde", &error) == NULL &&
        error == EINVAL);
}

static void system_calls_give_negative_errors(void) {
  CHECK(quasaur_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0) == getpid());
  CHECK(quasaur_syscall(SYS_close, -1, 0, 0, 0, 0, 0) == -EBADF);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {
      {"runs the function and reports", runs_the_function_and_reports},
      {"stops at the first failing step", stops_at_the_first_failing_step},
      {"copies the data of steps", copies_the_data_of_steps},
      {"interrupts a blocked call", interrupts_a_blocked_call},
      {"never signals a guest that returned", never_signals_a_guest_that_returned},
      {"loses no record when the pipe is full", loses_no_record_when_the_pipe_is_full},
      {"blocks the signals of the process", blocks_the_signals_of_the_process},
      {"denies sending signals", denies_sending_signals},
      {"sets nice of the thread only", sets_nice_of_the_thread_only},
      {"a stack overflow hits the guard", a_stack_overflow_hits_the_guard},
      {"refuses unsound requests", refuses_unsound_requests},
      {"system calls give negative errors", system_calls_give_negative_errors},
  };
  CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
  CHECK(quasaur_init() == 0);
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
    tests[i].run();
    sweep_all();
    printf("ok %s\n", tests[i].name);
    fflush(stdout);
  }
  return 0;
}
