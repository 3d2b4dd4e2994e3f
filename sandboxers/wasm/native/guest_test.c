/*
 * Tests of the guest library in C, so that they can run under AddressSanitizer and
 * UndefinedBehaviorSanitizer: those of guest.c and stacks.c, and what runs them all. guest_test.ts
 * builds and runs the program. It prints one line a test; ends with 1 at the first failure.
 */
#define _GNU_SOURCE
#include "guest_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int pipe_fds[2];
static atomic_uint calls;

/* Looking for uses of dead stack frames maps memory at moments when no signal can be handled. */
QUASAUR_EXPORT const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_stack_use_after_return=0"; }

struct quasaur_spec spec_of(test_function *function, uint64_t id) {
  struct quasaur_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.id = id;
  spec.function = (uint64_t)(uintptr_t)function;
  spec.stack_bytes = STACK_BYTES;
  spec.guard_bytes = GUARD_BYTES;
  spec.record_fd = pipe_fds[1];
  spec.heap_bytes_max = UINT64_MAX;
  spec.descriptors_max = UINT32_MAX;
  strcpy(spec.name, "guest");
  return spec;
}

struct quasaur_guest *start(const struct quasaur_spec *spec, const struct quasaur_step *steps,
                            const void *data) {
  int32_t error = -1;
  struct quasaur_guest *guest = quasaur_guest_start(spec, steps, data, &error);
  CHECK(guest != NULL && error == 0);
  return guest;
}

struct quasaur_record next_record(void) {
  struct quasaur_record record;
  struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
  CHECK(poll(&readable, 1, RECORD_WAIT_MS) == 1);
  CHECK(read(pipe_fds[0], &record, sizeof record) == (ssize_t)sizeof record);
  return record;
}

bool has_record(int wait_ms) {
  struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
  return poll(&readable, 1, wait_ms) == 1;
}

struct quasaur_record finish(struct quasaur_guest *guest) {
  struct quasaur_record record = next_record();
  if (record.kind == QUASAUR_RUNNING) record = next_record();
  quasaur_guest_release(guest);
  return record;
}

struct quasaur_record interrupt_until_end(struct quasaur_guest *guest) {
  for (int i = 0;; i++) {
    CHECK(i < RECORD_WAIT_MS);
    const int32_t result = quasaur_guest_interrupt(guest);
    CHECK(result == 0 || result == EAGAIN || result == ESRCH);
    if (!has_record(1)) continue;
    const struct quasaur_record record = next_record();
    if (record.kind != QUASAUR_RETURNED && record.kind != QUASAUR_REFUSED) continue;
    quasaur_guest_release(guest);
    return record;
  }
}

uint64_t result_of(test_function *function) {
  const struct quasaur_spec spec = spec_of(function, 1);
  const struct quasaur_record record = finish(start(&spec, NULL, NULL));
  CHECK(record.kind == QUASAUR_RETURNED);
  return record.value;
}

void sweep_all(void) {
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

/* Reads /proc/thread-self/`file` to `out`. */
static uint64_t read_own(const char *file, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/thread-self/%s", file);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return (uint64_t)errno;
  const ssize_t got = read(fd, out, size - 1);
  out[got < 0 ? 0 : got] = '\0';
  close(fd);
  return got < 0 ? (uint64_t)errno : 0;
}

static uint64_t own_name(uint64_t out, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  (void)b, (void)c, (void)d, (void)e, (void)f;
  return read_own("comm", (char *)(uintptr_t)out, 17);
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
  CHECK(strcmp(name, "renamed\n") == 0);
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
  /* The first signals may come before the guest waits, so they are repeated as the host does it. */
  for (int i = 0; !has_record(1); i++) {
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
  char status[4096];
  if (read_own("status", status, sizeof status) != 0) return 0;
  return refused * 10 + (strstr(status, "NoNewPrivs:\t1") != NULL);
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

static void overflow_a_stack(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_fault;
  action.sa_flags = SA_ONSTACK;
  CHECK(quasaur_init() == 0);
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  struct quasaur_spec spec = spec_of(recurse, 1);
  (void)start(&spec, NULL, NULL);
  sleep(30);
}

int run_again(const char *what) {
  fflush(stdout);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl("/proc/self/exe", "guest_test", what, (char *)NULL);
    _exit(1);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

/* That the handler runs shows that it has its own stack. */
static void a_stack_overflow_hits_the_guard(void) {
  const int status = run_again("overflow");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == FAULT_STATUS);
}

/* Fills its stack with a pattern; returns what was there before, as a count of bytes not zero. */
static uint64_t fill_stack(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  uint8_t here;
  uint64_t found = 0;
  /* Below this frame and what it calls, down to where another guest has been too. */
  volatile uint8_t *end = (uint8_t *)((uintptr_t)&here - 8192);
  for (size_t i = 0; i < 262144; i++) {
    if (end[-(ptrdiff_t)i] == 0xa5) found++;
    end[-(ptrdiff_t)i] = 0xa5;
  }
  return found;
}

static void leaves_nothing_in_a_stack(void) {
  for (int i = 0; i < 20; i++) {
    CHECK(result_of(fill_stack) == 0);
    sweep_all();
  }
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

/* As a user who may have no more threads. */
static void start_without_threads_left(void) {
  enum { NOBODY = 65534 };
  if (geteuid() == 0) CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
  CHECK(quasaur_init() == 0);
  CHECK(result_of(add) == 0); /* and with it, what makes the threads */
  const struct rlimit none = {.rlim_cur = 1, .rlim_max = 1};
  CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
  const struct quasaur_spec spec = spec_of(add, 1);
  const unsigned before = atomic_load(&calls);
  const struct quasaur_record record = finish(start(&spec, NULL, NULL));
  CHECK(record.kind == QUASAUR_REFUSED && record.step == QUASAUR_STEP_THREAD);
  CHECK(record.value == EAGAIN && atomic_load(&calls) == before);
  sweep_all();
  _exit(FAULT_STATUS);
}

static void a_thread_that_cannot_be_made_is_refused(void) {
  const int status = run_again("without threads");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == FAULT_STATUS);
}

static const struct test fatal_tests[] = {
    {"overflow", overflow_a_stack},
    {"without threads", start_without_threads_left},
    {NULL, NULL},
};

static const struct test guest_tests[] = {
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
    {"leaves nothing of a guest in a stack for the next", leaves_nothing_in_a_stack},
    {"a thread that cannot be made is refused", a_thread_that_cannot_be_made_is_refused},
    {"refuses unsound requests", refuses_unsound_requests},
    {"system calls give negative errors", system_calls_give_negative_errors},
    {NULL, NULL},
};

static int run_fatal(const char *name) {
  const struct test *const tables[] = {fatal_tests, fatal_fault_tests, fatal_name_tests};
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
    for (const struct test *test = tables[i]; test->name != NULL; test++) {
      if (strcmp(name, test->name) == 0) test->run();
    }
  }
  return 1;
}

int main(int argc, char **argv) {
  CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
  if (argc > 1) return run_fatal(argv[1]);
  CHECK(quasaur_init() == 0);
  CHECK(quasaur_init() == 0);
  const struct test *const tables[] = {
      guest_tests, filter_tests, supervisor_tests, fault_tests, name_tests};
  for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
    for (const struct test *test = tables[i]; test->name != NULL; test++) {
      test->run();
      sweep_all();
      printf("ok %s\n", test->name);
      fflush(stdout);
    }
  }
  return 0;
}
