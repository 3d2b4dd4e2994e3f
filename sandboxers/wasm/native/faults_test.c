/*
 * Tests of faults.c: see guest_test.c. The engine is played by a handler that leaves by longjmp(3),
 * as WasmEdge's does; the compiled code by guest_test_code.c.
 */
#define _GNU_SOURCE
#include "guest_test.h"
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f

#define LEFT_BY_FAULT 4711u
#define HOST_STATUS 43
#define ENGINE_STACK_MIN 262144u

/* ---- The engine. ---- */

static _Thread_local jmp_buf way_out;
static _Thread_local volatile sig_atomic_t has_way_out;

static void engine_on_fault(int number, siginfo_t *info, void *context) {
  (void)info, (void)context;
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, number);
  pthread_sigmask(SIG_UNBLOCK, &own, NULL);
  if (!has_way_out) _exit(99); /* the engine would run into nothing */
  has_way_out = 0;
  longjmp(way_out, 1);
}

static void install_engine_handlers(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = engine_on_fault;
  action.sa_flags = SA_SIGINFO;
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  CHECK(sigaction(SIGBUS, &action, NULL) == 0);
  CHECK(sigaction(SIGFPE, &action, NULL) == 0);
}

/* Calls compiled code with a way out, as the engine does. args: the function, its argument. */
static uint64_t enter_code(ARGUMENTS) {
  (void)c, (void)d, (void)e, (void)f;
  uint64_t (*function)(uint64_t) = (uint64_t(*)(uint64_t))(uintptr_t)a;
  if (setjmp(way_out) != 0) {
    /* Whoever left the handler left it with no signal blocked. */
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGSEGV) || sigismember(&mask, quasaur_interrupt_signal())) return 1;
    return LEFT_BY_FAULT;
  }
  has_way_out = 1;
  const uint64_t result = function(b);
  has_way_out = 0;
  return result;
}

static atomic_uint engine_calls;
static _Atomic uintptr_t lowest_stack;

static uint64_t engine_sleeps_a_little(uint64_t argument) {
  atomic_fetch_add(&engine_calls, 1);
  usleep(100);
  return argument;
}

static uint64_t engine_notes_the_stack(uint64_t argument) {
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  if (here < atomic_load(&lowest_stack)) atomic_store(&lowest_stack, here);
  return argument;
}

static uint64_t engine_adds_one(uint64_t argument) { return argument + 1; }

typedef uint64_t engine_function(uint64_t);
/* As long as what is copied of it. */
static engine_function *const engine_table[96] = {
    engine_sleeps_a_little, engine_notes_the_stack, engine_adds_one};

/* ---- The compiled code. ---- */

static char code_path[4096];
static void *code_library;

static uint64_t code_function(const char *name) {
  const uint64_t address = (uint64_t)(uintptr_t)dlsym(code_library, name);
  CHECK(address != 0);
  return address;
}

static void load_code(void) {
  const ssize_t length = readlink("/proc/self/exe", code_path, sizeof code_path - 16);
  CHECK(length > 0);
  code_path[length] = '\0';
  char *name = strrchr(code_path, '/');
  strcpy(name + 1, "guest_test_code.so");
  code_library = dlopen(code_path, RTLD_NOW | RTLD_LOCAL);
  CHECK(code_library != NULL);
  engine_function *const **table = dlsym(code_library, "intrinsics");
  CHECK(table != NULL);
  *table = engine_table;
}

static int32_t code_number;

static void begin(void) {
  load_code();
  install_engine_handlers();
  CHECK(quasaur_pin_fault_handlers() == 0);
  code_number = quasaur_add_code(code_path);
  CHECK(code_number > 0);
}

static struct quasaur_spec code_spec(const char *function, uint64_t argument) {
  struct quasaur_spec spec = spec_of(enter_code, 1);
  spec.stack_bytes = 4u << 20;
  spec.args[0] = code_function(function);
  spec.args[1] = argument;
  return spec;
}

static uint64_t run_code(const char *function, uint64_t argument) {
  const struct quasaur_spec spec = code_spec(function, argument);
  const struct quasaur_record record = finish(start(&spec, NULL, NULL));
  CHECK(record.kind == QUASAUR_RETURNED);
  return record.value;
}

/* ---- The tests. ---- */

static void handlers_are_pinned_only_once_the_engine_has_some(void) {
  CHECK(quasaur_pin_fault_handlers() == ENOENT);
  install_engine_handlers();
  CHECK(quasaur_pin_fault_handlers() == 0);
  CHECK(quasaur_pin_fault_handlers() == 0);
}

static void code_is_found_by_its_path_and_bounded(void) {
  load_code();
  CHECK(quasaur_add_code("/nowhere/at/all.so") == -ENOENT);
  static int32_t numbers[QUASAUR_CODE_MAX];
  for (size_t i = 0; i < QUASAUR_CODE_MAX; i++) {
    numbers[i] = quasaur_add_code(code_path);
    CHECK(numbers[i] > 0);
  }
  CHECK(quasaur_add_code(code_path) == -ENOSPC);
  for (size_t i = 0; i < QUASAUR_CODE_MAX; i++) CHECK(quasaur_remove_code(numbers[i]) == 0);
  CHECK(quasaur_remove_code(numbers[0]) == ENOENT);
  CHECK(quasaur_remove_code(0) == ENOENT);
  code_number = quasaur_add_code(code_path);
  CHECK(code_number > 0);
}

static void a_table_of_another_engine_is_refused(void) {
  static engine_function *const other[] = {engine_adds_one};
  engine_function *const **table = dlsym(code_library, "intrinsics");
  engine_function *const *ours = *table;
  *table = other;
  CHECK(quasaur_add_code(code_path) == -EINVAL);
  *table = ours;
}

static void a_fault_of_code_goes_to_the_engine(void) {
  for (int i = 0; i < 50; i++) CHECK(run_code("read_from", 8) == LEFT_BY_FAULT);
  const uint64_t value = 12345;
  CHECK(run_code("read_from", (uint64_t)(uintptr_t)&value) == 12345);
}

static void a_stack_overflow_of_code_goes_to_the_engine(void) {
  for (int i = 0; i < 20; i++) CHECK(run_code("recurse_for_ever", 0) == LEFT_BY_FAULT);
}

static uint32_t step_of(const char *function, uint64_t argument) {
  const struct quasaur_spec spec = code_spec(function, argument);
  const struct quasaur_record record = finish(start(&spec, NULL, NULL));
  CHECK(record.kind == QUASAUR_RETURNED && record.value == LEFT_BY_FAULT);
  return record.step;
}

static void a_record_tells_the_end_of_the_stack_from_other_faults(void) {
  CHECK(step_of("read_from", 8) == 0);
  CHECK(step_of("recurse_for_ever", 0) == 1);
  CHECK(step_of("recurse_with_calls", 0) == 1);
}

static void code_calls_the_engine_through_our_table(void) {
  CHECK(run_code("call_once", 41) == 42);
}

static void the_engine_is_not_called_near_the_end_of_the_stack(void) {
  struct quasaur_spec spec = code_spec("recurse_with_calls", 0);
  atomic_store(&lowest_stack, UINTPTR_MAX);
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  const uintptr_t stack = (uintptr_t)guest->stacks.stack;
  CHECK(finish(guest).value == LEFT_BY_FAULT);
  const uintptr_t lowest = atomic_load(&lowest_stack);
  CHECK(lowest > stack + ENGINE_STACK_MIN && lowest < stack + spec.stack_bytes / 2);
}

static void an_interrupt_ends_code_that_computes(void) {
  for (int i = 0; i < 200; i++) {
    const struct quasaur_spec spec = code_spec("compute_for_ever", 0);
    struct quasaur_guest *guest = start(&spec, NULL, NULL);
    CHECK(next_record().kind == QUASAUR_RUNNING);
    const struct quasaur_record record = interrupt_until_end(guest);
    CHECK(record.kind == QUASAUR_RETURNED && record.value == LEFT_BY_FAULT);
  }
}

static void an_interrupt_ends_code_that_calls_the_engine(void) {
  for (int i = 0; i < 50; i++) {
    const struct quasaur_spec spec = code_spec("call_for_ever", 0);
    atomic_store(&engine_calls, 0);
    struct quasaur_guest *guest = start(&spec, NULL, NULL);
    while (atomic_load(&engine_calls) == 0) usleep(50);
    const struct quasaur_record record = interrupt_until_end(guest);
    CHECK(record.kind == QUASAUR_RETURNED && record.value == LEFT_BY_FAULT);
  }
}

static void a_signal_alone_ends_no_code(void) {
  struct quasaur_spec spec = code_spec("compute_for_a_while", 300000000);
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  const struct quasaur_record running = next_record();
  CHECK(running.kind == QUASAUR_RUNNING);
  for (int i = 0; i < 100; i++) {
    CHECK(syscall(SYS_tgkill, getpid(), running.value, quasaur_interrupt_signal()) == 0);
    usleep(100);
    if (has_record(0)) break;
  }
  CHECK(finish(guest).value == 300000000);
}

static void an_interrupt_leaves_code_that_is_not_registered_alone(void) {
  CHECK(quasaur_remove_code(code_number) == 0);
  struct quasaur_spec spec = code_spec("compute_for_a_while", 300000000);
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  const struct quasaur_record record = interrupt_until_end(guest);
  CHECK(record.kind == QUASAUR_RETURNED && record.value == 300000000);
  code_number = quasaur_add_code(code_path);
  CHECK(code_number > 0);
}

static void many_guests_are_interrupted_at_once(void) {
  enum { COUNT = 24 };
  struct quasaur_guest *guests[COUNT];
  bool over[COUNT] = {false};
  for (uint64_t i = 0; i < COUNT; i++) {
    struct quasaur_spec spec = code_spec(i % 2 ? "compute_for_ever" : "call_for_ever", 0);
    spec.id = i;
    guests[i] = start(&spec, NULL, NULL);
  }
  for (int left = COUNT, round = 0; left > 0; round++) {
    CHECK(round < RECORD_WAIT_MS);
    for (int i = 0; i < COUNT; i++) {
      if (!over[i]) (void)quasaur_guest_interrupt(guests[i]);
    }
    while (has_record(1)) {
      const struct quasaur_record record = next_record();
      if (record.kind == QUASAUR_RUNNING) continue;
      CHECK(record.id < COUNT && record.value == LEFT_BY_FAULT);
      over[record.id] = true;
      quasaur_guest_release(guests[record.id]);
      left--;
    }
  }
}

/* ---- What ends the process, and must. ---- */

static uint64_t read_nothing(ARGUMENTS) {
  (void)b, (void)c, (void)d, (void)e, (void)f;
  has_way_out = 1; /* as in a function of the engine that compiled code has called */
  if (setjmp(way_out) != 0) return LEFT_BY_FAULT;
  return *(volatile uint64_t *)(uintptr_t)a;
}

static void fault_outside_of_code(void) {
  CHECK(quasaur_init() == 0);
  begin();
  struct quasaur_spec spec = spec_of(read_nothing, 1);
  spec.args[0] = 8;
  (void)finish(start(&spec, NULL, NULL));
  _exit(0);
}

static void on_host_fault(int number) {
  (void)number;
  _exit(HOST_STATUS);
}

static void install_host_handler(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_host_fault;
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  CHECK(quasaur_init() == 0);
  begin();
}

static void fault_of_the_host(void) {
  install_host_handler();
  CHECK(run_code("read_from", 8) == LEFT_BY_FAULT);
  volatile uintptr_t nowhere = 8;
  *(volatile uint64_t *)nowhere = 1;
  _exit(0);
}

static void signal_from_somebody(void) {
  install_host_handler();
  (void)raise(SIGSEGV);
  _exit(0);
}

static void a_fault_outside_of_code_stays_a_crash(void) {
  const int status = run_again("fault outside of code");
  CHECK(WIFSIGNALED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 99));
}

static void a_fault_of_the_host_goes_to_the_handler_of_the_host(void) {
  const int fault = run_again("fault of the host");
  CHECK(WIFEXITED(fault) && WEXITSTATUS(fault) == HOST_STATUS);
  const int sent = run_again("signal from somebody");
  CHECK(WIFEXITED(sent) && WEXITSTATUS(sent) == HOST_STATUS);
}

const struct test fatal_fault_tests[] = {
    {"fault outside of code", fault_outside_of_code},
    {"fault of the host", fault_of_the_host},
    {"signal from somebody", signal_from_somebody},
    {NULL, NULL},
};

const struct test fault_tests[] = {
    {"handlers are pinned only once the engine has some",
     handlers_are_pinned_only_once_the_engine_has_some},
    {"code is found by its path and bounded", code_is_found_by_its_path_and_bounded},
    {"a table of another engine is refused", a_table_of_another_engine_is_refused},
    {"a fault of code goes to the engine", a_fault_of_code_goes_to_the_engine},
    {"a stack overflow of code goes to the engine", a_stack_overflow_of_code_goes_to_the_engine},
    {"a record tells the end of the stack from other faults",
     a_record_tells_the_end_of_the_stack_from_other_faults},
    {"code calls the engine through our table", code_calls_the_engine_through_our_table},
    {"the engine is not called near the end of the stack",
     the_engine_is_not_called_near_the_end_of_the_stack},
    {"an interrupt ends code that computes", an_interrupt_ends_code_that_computes},
    {"an interrupt ends code that calls the engine", an_interrupt_ends_code_that_calls_the_engine},
    {"a signal alone ends no code", a_signal_alone_ends_no_code},
    {"an interrupt leaves code that is not registered alone",
     an_interrupt_leaves_code_that_is_not_registered_alone},
    {"many guests are interrupted at once", many_guests_are_interrupted_at_once},
    {"a fault outside of code stays a crash", a_fault_outside_of_code_stays_a_crash},
    {"a fault of the host goes to the handler of the host",
     a_fault_of_the_host_goes_to_the_handler_of_the_host},
    {NULL, NULL},
};
