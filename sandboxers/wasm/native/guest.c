/* Guest threads: see guest.h for what this is and who calls it. */
#define _GNU_SOURCE
#include "internal.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* threads.ts relies on these. */
static_assert(sizeof(struct quasaur_step) == 64, "quasaur_step");
static_assert(offsetof(struct quasaur_spec, stack_bytes) == 64, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, record_fd) == 80, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, name) == 96, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, heap_bytes_max) == 112, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, filter_at) == 124, "quasaur_spec");
static_assert(sizeof(struct quasaur_spec) == 136, "quasaur_spec");
static_assert(sizeof(struct quasaur_record) == 32, "quasaur_record");

#define STACK_BYTES_MIN 131072u
#define STACK_BYTES_MAX (1u << 30)

/*
 * The gate of quasaur_guest_interrupt. It counts the interrupts that are being sent; OPEN while the
 * function runs, CLOSED from its return on. The thread closes the gate and then waits until the
 * count is zero, so a signal is only ever sent to a thread that exists: its id cannot have been
 * reused. It is the guest that waits for the host, never the other way round.
 */
#define GATE_OPEN 0x40000000u
#define GATE_CLOSED 0x80000000u
#define GATE_COUNT 0x3fffffffu

typedef uint64_t guest_function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

/* Released guests whose threads may still be ending. Only the host's thread touches the list. */
static struct quasaur_guest *released;
static uint32_t released_count;

/*
 * Names are looked up in files and by DNS, both of which are part of the C library: nothing that
 * /etc/nsswitch.conf of a guest's root names is loaded into this process.
 */
static int pin_name_resolution(void) {
  extern int __nss_configure_lookup(const char *, const char *);
  return __nss_configure_lookup("hosts", "files dns") == 0 ? 0 : errno;
}

int32_t quasaur_init(void) {
  int error = quasaur_faults_init();
  if (error == 0) error = quasaur_supervisor_init();
  if (error == 0) error = pin_name_resolution();
  return error;
}

int64_t quasaur_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e,
                        int64_t f) {
  long result = syscall(number, a, b, c, d, e, f);
  return result == -1 ? -(int64_t)errno : result;
}

/* Looks where the loader looks for this library and all that it is linked with. */
uint64_t quasaur_symbol(const char *name) {
  Dl_info self;
  if (dladdr((void *)(uintptr_t)quasaur_symbol, &self) == 0) return 0;
  void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  if (library == NULL) return 0;
  const uint64_t address = (uint64_t)(uintptr_t)dlsym(library, name);
  (void)dlclose(library);
  return address;
}

static uint64_t read_clock_ns(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) return 0;
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* What a thread does between two looks at what another one is about to write. */
static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* Writes one record. A full pipe makes the guest's thread wait; nothing makes a record get lost. */
void quasaur_write_record(const struct quasaur_guest *guest, enum quasaur_record_kind kind,
                          uint64_t value, uint32_t step) {
  struct quasaur_record record = {
      .id = guest->spec.id,
      .value = value,
      .cpu_ns = guest->cpu_ns,
      .kind = (uint32_t)kind,
      .step = step,
  };
  for (;;) {
    ssize_t written = write(guest->spec.record_fd, &record, sizeof record);
    if (written == (ssize_t)sizeof record) return;
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      struct pollfd writable = {.fd = guest->spec.record_fd, .events = POLLOUT};
      (void)poll(&writable, 1, -1);
      continue;
    }
    return; /* EPIPE, EBADF: the host has stopped listening, it is on its way out */
  }
}

/*
 * Signals for the whole process must not land on a guest: they would end its waits with EINTR. What
 * stays open is the interrupt, the faults that the thread itself causes, and the filter's signal.
 * Starters do it, and their threads are born so.
 */
int quasaur_block_signals(void) {
  sigset_t blocked;
  sigfillset(&blocked);
  const int open[] = {quasaur_interrupt_signal(), SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) sigdelset(&blocked, open[i]);
  return pthread_sigmask(SIG_SETMASK, &blocked, NULL);
}

/* The caller's settings in order. Returns 0, or an errno with *failed set to the index. */
static int run_steps(const struct quasaur_guest *guest, uint32_t *failed) {
  for (uint32_t i = 0; i < guest->spec.step_count; i++) {
    const struct quasaur_step *step = &guest->steps[i];
    const int64_t result = quasaur_supervised_call(step->number, step->args);
    if (result < 0 && result >= -KERNEL_ERROR_MAX) {
      *failed = i;
      return (int)-result;
    }
  }
  return 0;
}

static int set_name(const char *name) {
  const uint64_t args[6] = {PR_SET_NAME, (uint64_t)(uintptr_t)name};
  return (int)-quasaur_supervised_call(SYS_prctl, args);
}

/*
 * Linux keeps the nice value per thread; 0 as "who" is the calling one. Always set: a new thread
 * has that of the thread that made it, which may be favoured. Without privileges a process that was
 * started with a higher value keeps it.
 */
static int set_nice(int32_t nice) {
  const uint64_t args[6] = {PRIO_PROCESS, 0, (uint64_t)(int64_t)nice};
  const int error = (int)-quasaur_supervised_call(SYS_setpriority, args);
  return error == EACCES || error == EPERM ? 0 : error;
}

/* All settings of a thread; the filter is in force already. */
static int enter_sandbox(const struct quasaur_guest *guest, uint32_t *failed) {
  const stack_t signal_stack = {
      .ss_sp = guest->stacks.signal_stack,
      .ss_size = SIGNAL_STACK_BYTES,
  };
  *failed = QUASAUR_STEP_STACK;
  if (sigaltstack(&signal_stack, NULL) != 0) return errno;
  *failed = QUASAUR_STEP_NAME;
  int error = set_name(guest->spec.name);
  if (error != 0) return error;
  *failed = QUASAUR_STEP_NICE;
  error = set_nice(guest->spec.nice);
  return error != 0 ? error : run_steps(guest, failed);
}

static void leave_signal_stack(void) {
  const stack_t none = {.ss_flags = SS_DISABLE};
  (void)sigaltstack(&none, NULL);
}

/* What a guest's thread does. It has the starter's filter and signal mask from the beginning. */
void *quasaur_guest_main(void *argument) {
  struct quasaur_guest *guest = argument;
  quasaur_current = guest;
  guest->thread = pthread_self();
  uint32_t failed = 0;
  const int error = enter_sandbox(guest, &failed);
  uint64_t value = (uint64_t)error;
  if (error == 0) {
    const pid_t tid = gettid();
    quasaur_faults_enter(guest);
    quasaur_write_record(guest, QUASAUR_RUNNING, (uint64_t)tid, 0);
    atomic_fetch_or(&guest->gate, GATE_OPEN);
    atomic_store(&guest->tid, tid);
    const uint64_t *args = guest->spec.args;
    /* SAFETY: the caller gave the address of a function of this type, or one that ignores arguments
     * and returns less: both are the same call in the ABIs of x86-64 and aarch64. */
    guest_function *function = (guest_function *)(uintptr_t)guest->spec.function;
    value = function(args[0], args[1], args[2], args[3], args[4], args[5]);
  }
  if (error != 0) atomic_store(&guest->tid, -1);
  atomic_fetch_or(&guest->gate, GATE_CLOSED);
  while (atomic_load(&guest->gate) & GATE_COUNT) sched_yield();
  quasaur_faults_leave();
  leave_signal_stack();
  guest->cpu_ns = read_clock_ns(CLOCK_THREAD_CPUTIME_ID);
  atomic_store(&guest->ended, true);
  if (error == 0) {
    quasaur_write_record(guest, QUASAUR_RETURNED, value, guest->overflowed ? 1 : 0);
  } else {
    quasaur_write_record(guest, QUASAUR_REFUSED, value, failed);
  }
  return NULL;
}

static void free_guest(struct quasaur_guest *guest) {
  quasaur_stacks_give(&guest->stacks);
  free(guest);
}

/* Whether the filter lies in the data, aligned, and is of the kind that filter.c takes. */
static bool is_filter_sound(const struct quasaur_spec *spec, const uint8_t *data) {
  if (spec->filter_count == 0) return true;
  const size_t at = spec->filter_at;
  const size_t bytes = sizeof(struct sock_filter) * (size_t)spec->filter_count;
  if (at % sizeof(struct sock_filter) != 0 || at > spec->data_bytes) return false;
  if (spec->filter_count > BPF_MAXINSNS || bytes > spec->data_bytes - at) return false;
  return quasaur_filter_is_sound((const struct sock_filter *)(const void *)(data + at),
                                 spec->filter_count);
}

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static bool is_sound(const struct quasaur_spec *spec) {
  return spec->function != 0 && spec->record_fd >= 0 && spec->step_count <= QUASAUR_STEPS_MAX &&
         spec->data_bytes <= QUASAUR_DATA_MAX && spec->stack_bytes >= STACK_BYTES_MIN &&
         spec->stack_bytes <= STACK_BYTES_MAX && spec->guard_bytes >= page_bytes() &&
         spec->guard_bytes <= STACK_BYTES_MAX && spec->name[QUASAUR_NAME_BYTES - 1] == '\0';
}

/* Copies spec, settings and data into one block and turns data offsets into addresses. */
static struct quasaur_guest *copy_spec(const struct quasaur_spec *spec,
                                       const struct quasaur_step *steps, const uint8_t *data) {
  const size_t steps_bytes = sizeof(struct quasaur_step) * spec->step_count;
  struct quasaur_guest *guest = calloc(1, sizeof *guest + steps_bytes + spec->data_bytes);
  if (guest == NULL) return NULL;
  guest->spec = *spec;
  guest->data = (uint8_t *)guest->steps + steps_bytes;
  if (steps_bytes > 0) memcpy(guest->steps, steps, steps_bytes);
  if (spec->data_bytes > 0) memcpy(guest->data, data, spec->data_bytes);
  for (uint32_t i = 0; i < spec->step_count; i++) {
    for (uint32_t arg = 0; arg < 6; arg++) {
      if (!(guest->steps[i].data_args & (1u << arg))) continue;
      if (guest->steps[i].args[arg] >= spec->data_bytes) {
        free(guest);
        return NULL;
      }
      guest->steps[i].args[arg] += (uint64_t)(uintptr_t)guest->data;
    }
  }
  return guest;
}

struct quasaur_guest *quasaur_guest_start(const struct quasaur_spec *spec,
                                          const struct quasaur_step *steps, const uint8_t *data,
                                          int32_t *error) {
  (void)quasaur_sweep();
  *error = EINVAL;
  if (!is_sound(spec)) return NULL;
  *error = ENOEXEC;
  if (!is_filter_sound(spec, data)) return NULL;
  errno = EINVAL;
  struct quasaur_guest *guest = copy_spec(spec, steps, data);
  if (guest == NULL) {
    *error = errno;
    return NULL;
  }
  const struct sock_filter *filter =
      (const struct sock_filter *)(const void *)(guest->data + spec->filter_at);
  *error = quasaur_stacks_take(&guest->stacks, spec->stack_bytes, spec->guard_bytes);
  if (*error == 0) *error = quasaur_starter_give(guest, filter, spec->filter_count);
  if (*error == 0) return guest;
  free_guest(guest);
  return NULL;
}

int32_t quasaur_guest_interrupt(struct quasaur_guest *guest) {
  const uint32_t gate = atomic_fetch_add(&guest->gate, 1);
  int32_t result = 0;
  if (gate & GATE_CLOSED) {
    result = ESRCH;
  } else if (!(gate & GATE_OPEN)) {
    result = EAGAIN;
  } else {
    atomic_store(&guest->stop, 1);
    if (pthread_kill(guest->thread, quasaur_interrupt_signal()) != 0) result = ESRCH;
  }
  atomic_fetch_sub(&guest->gate, 1);
  return result;
}

static uint64_t now_ns(void) { return read_clock_ns(CLOCK_MONOTONIC); }

int32_t quasaur_guest_await(const struct quasaur_guest *guest, uint32_t wait_us) {
  const uint64_t end = now_ns() + (uint64_t)wait_us * 1000u;
  for (uint32_t i = 0;; i++) {
    const int tid = atomic_load(&guest->tid);
    if (tid != 0) return tid > 0 ? tid : 0;
    /* To ask for the time takes as long as some looks. */
    if (i % 16 == 0 && now_ns() >= end) return 0;
    relax();
  }
}

int32_t quasaur_guest_is_running(const struct quasaur_guest *guest) {
  return (atomic_load(&guest->gate) & GATE_CLOSED) == 0;
}

int64_t quasaur_guest_cpu_ns(struct quasaur_guest *guest) {
  clockid_t clock;
  if (!(atomic_load(&guest->gate) & GATE_OPEN)) return 0;
  if (!atomic_load(&guest->ended) && pthread_getcpuclockid(guest->thread, &clock) == 0) {
    const uint64_t now = read_clock_ns(clock);
    if (now > 0) return (int64_t)now;
  }
  /* A thread that has ended can be read only after its last store, which `ended` publishes. */
  return atomic_load(&guest->ended) ? (int64_t)guest->cpu_ns : 0;
}

void quasaur_guest_release(struct quasaur_guest *guest) {
  guest->next = released;
  released = guest;
  released_count++;
  (void)quasaur_sweep();
}

uint32_t quasaur_sweep(void) {
  quasaur_starters_sweep();
  struct quasaur_guest **link = &released;
  while (*link != NULL) {
    struct quasaur_guest *guest = *link;
    /* The stack may go only when the kernel has left it: joining without waiting tells. */
    if (!guest->has_thread || pthread_tryjoin_np(guest->thread, NULL) == 0) {
      *link = guest->next;
      free_guest(guest);
      released_count--;
    } else {
      link = &guest->next;
    }
  }
  return released_count;
}
