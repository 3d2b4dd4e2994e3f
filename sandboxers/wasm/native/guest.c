/* Guest threads: see guest.h for what this is and who calls it. */
#define _GNU_SOURCE
#include "guest.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define GUEST_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define GUEST_ARCH AUDIT_ARCH_AARCH64
#else
#error "guest.c: only x86-64 and aarch64 are supported"
#endif

/* threads.ts relies on these. */
static_assert(sizeof(struct quasaur_step) == 64, "quasaur_step");
static_assert(offsetof(struct quasaur_spec, stack_bytes) == 64, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, record_fd) == 80, "quasaur_spec");
static_assert(offsetof(struct quasaur_spec, name) == 96, "quasaur_spec");
static_assert(sizeof(struct quasaur_spec) == 112, "quasaur_spec");
static_assert(sizeof(struct quasaur_record) == 32, "quasaur_record");

#define SIGNAL_STACK_BYTES 65536u
#define STACK_BYTES_MIN 131072u
#define STACK_BYTES_MAX (1u << 30)
#define KERNEL_ERROR_MAX 4095

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

/*
 * Memory of a guest: this structure with the settings and their data behind it (from the heap), and
 * one mapping, lowest address first:
 *     guard | stack | page | signal stack
 * where guard and page are PROT_NONE: neither stack can run into the other or out of the mapping.
 * That is four kernel mappings per guest; with the engine's two per linear memory 8,000 guests need
 * 48,000 of the 65,530 that vm.max_map_count allows by default.
 */
struct quasaur_guest {
  struct quasaur_spec spec;
  pthread_t thread;
  atomic_uint gate;
  atomic_bool ended; /* cpu_ns is final */
  uint64_t cpu_ns;
  uint8_t *mapping;
  size_t mapping_bytes;
  uint8_t *signal_stack;
  uint8_t *data;
  struct quasaur_guest *next_released;
  struct quasaur_step steps[];
};

/* Released guests whose threads may still be ending. Only the host's thread touches the list. */
static struct quasaur_guest *released;
static uint32_t released_count;

static int interrupt_signal(void) { return SIGRTMIN + 5; }

/* Its only effect is that the interrupted system call returns EINTR. */
static void on_interrupt(int number) { (void)number; }

int32_t quasaur_init(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_ONSTACK; /* and not SA_RESTART */
  sigemptyset(&action.sa_mask);
  return sigaction(interrupt_signal(), &action, NULL) == 0 ? 0 : errno;
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

static uint64_t thread_cpu_ns(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) return 0;
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Writes one record. A full pipe makes the guest's thread wait; nothing makes a record get lost. */
static void write_record(const struct quasaur_guest *guest, enum quasaur_record_kind kind,
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
 * stays open is the interrupt and the faults that the thread itself causes.
 */
static int block_signals(void) {
  sigset_t blocked;
  sigfillset(&blocked);
  const int open[] = {interrupt_signal(), SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) sigdelset(&blocked, open[i]);
  return pthread_sigmask(SIG_SETMASK, &blocked, NULL);
}

/*
 * Refuses to send signals. WASI's proc_raise is a plain raise(3) in engines: without this any guest
 * could end the process with all other guests in it.
 */
static int deny_signals(void) {
#define DENY(call) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, GUEST_ARCH, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
      /* The x32 numbers share the audit arch of x86-64. */
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
#endif
      DENY(SYS_kill),
      DENY(SYS_tkill),
      DENY(SYS_tgkill),
      DENY(SYS_rt_sigqueueinfo),
      DENY(SYS_rt_tgsigqueueinfo),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
#undef DENY
  struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : errno;
}

/* The caller's settings in order. Returns 0, or an errno with *failed set to the index. */
static int run_steps(struct quasaur_guest *guest, uint32_t *failed) {
  for (uint32_t i = 0; i < guest->spec.step_count; i++) {
    struct quasaur_step *step = &guest->steps[i];
    int64_t result = quasaur_syscall(step->number, (int64_t)step->args[0], (int64_t)step->args[1],
                                     (int64_t)step->args[2], (int64_t)step->args[3],
                                     (int64_t)step->args[4], (int64_t)step->args[5]);
    if (result < 0 && result >= -KERNEL_ERROR_MAX) {
      *failed = i;
      return (int)-result;
    }
  }
  return 0;
}

/* All settings of a thread. What needs privileges comes first, what takes them away comes last. */
static int enter_sandbox(struct quasaur_guest *guest, uint32_t *failed) {
  const stack_t signal_stack = {.ss_sp = guest->signal_stack, .ss_size = SIGNAL_STACK_BYTES};
  *failed = QUASAUR_STEP_STACK;
  if (sigaltstack(&signal_stack, NULL) != 0) return errno;
  *failed = QUASAUR_STEP_NAME;
  if (prctl(PR_SET_NAME, guest->spec.name, 0, 0, 0) != 0) return errno;
  *failed = QUASAUR_STEP_NICE;
  /* Linux keeps the nice value per thread; 0 as "who" is the calling one. Always set: a new thread
   * has that of the thread that made it, which may be favoured. Without privileges a process that
   * was started with a higher value keeps it. */
  if (setpriority(PRIO_PROCESS, 0, guest->spec.nice) != 0 && errno != EACCES && errno != EPERM) {
    return errno;
  }
  int error = run_steps(guest, failed);
  if (error != 0) return error;
  *failed = QUASAUR_STEP_NO_NEW_PRIVS;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  *failed = QUASAUR_STEP_SECCOMP;
  return deny_signals();
}

static void leave_signal_stack(void) {
  const stack_t none = {.ss_flags = SS_DISABLE};
  (void)sigaltstack(&none, NULL);
}

static void *guest_main(void *argument) {
  struct quasaur_guest *guest = argument;
  (void)block_signals();
  uint32_t failed = 0;
  int error = enter_sandbox(guest, &failed);
  uint64_t value = (uint64_t)error;
  if (error == 0) {
    write_record(guest, QUASAUR_RUNNING, (uint64_t)gettid(), 0);
    atomic_fetch_or(&guest->gate, GATE_OPEN);
    const uint64_t *args = guest->spec.args;
    /* SAFETY: the caller gave the address of a function of this type, or one that ignores arguments
     * and returns less: both are the same call in the ABIs of x86-64 and aarch64. */
    guest_function *function = (guest_function *)(uintptr_t)guest->spec.function;
    value = function(args[0], args[1], args[2], args[3], args[4], args[5]);
  }
  atomic_fetch_or(&guest->gate, GATE_CLOSED);
  while (atomic_load(&guest->gate) & GATE_COUNT) sched_yield();
  leave_signal_stack();
  guest->cpu_ns = thread_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
  atomic_store(&guest->ended, true);
  if (error == 0) {
    write_record(guest, QUASAUR_RETURNED, value, 0);
  } else {
    write_record(guest, QUASAUR_REFUSED, value, failed);
  }
  return NULL;
}

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static size_t round_to_pages(size_t bytes) {
  const size_t page = page_bytes();
  return (bytes + page - 1) / page * page;
}

/* Maps the two stacks with their guards; see struct quasaur_guest. Returns 0 or an errno. */
static int map_stacks(struct quasaur_guest *guest, uint8_t **stack) {
  const size_t guard = round_to_pages(guest->spec.guard_bytes);
  const size_t bytes = round_to_pages(guest->spec.stack_bytes);
  const size_t total = guard + bytes + page_bytes() + SIGNAL_STACK_BYTES;
  void *mapping =
      mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapping == MAP_FAILED) return errno;
  guest->mapping = mapping;
  guest->mapping_bytes = total;
  *stack = guest->mapping + guard;
  guest->signal_stack = *stack + bytes + page_bytes();
  if (mprotect(*stack, bytes, PROT_READ | PROT_WRITE) != 0) return errno;
  if (mprotect(guest->signal_stack, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE) != 0) return errno;
  return 0;
}

static int create_thread(struct quasaur_guest *guest, uint8_t *stack) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  error = pthread_attr_setstack(&attributes, stack, round_to_pages(guest->spec.stack_bytes));
  if (error == 0) error = pthread_create(&guest->thread, &attributes, guest_main, guest);
  (void)pthread_attr_destroy(&attributes);
  return error;
}

static void free_guest(struct quasaur_guest *guest) {
  if (guest->mapping != NULL) (void)munmap(guest->mapping, guest->mapping_bytes);
  free(guest);
}

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
  errno = EINVAL;
  struct quasaur_guest *guest = copy_spec(spec, steps, data);
  if (guest == NULL) {
    *error = errno;
    return NULL;
  }
  uint8_t *stack = NULL;
  *error = map_stacks(guest, &stack);
  if (*error == 0) *error = create_thread(guest, stack);
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
  } else if (pthread_kill(guest->thread, interrupt_signal()) != 0) {
    result = ESRCH;
  }
  atomic_fetch_sub(&guest->gate, 1);
  return result;
}

int32_t quasaur_guest_is_running(const struct quasaur_guest *guest) {
  return (atomic_load(&guest->gate) & GATE_CLOSED) == 0;
}

int64_t quasaur_guest_cpu_ns(struct quasaur_guest *guest) {
  clockid_t clock;
  if (!atomic_load(&guest->ended) && pthread_getcpuclockid(guest->thread, &clock) == 0) {
    const uint64_t now = thread_cpu_ns(clock);
    if (now > 0) return (int64_t)now;
  }
  /* A thread that has ended can be read only after its last store, which `ended` publishes. */
  return atomic_load(&guest->ended) ? (int64_t)guest->cpu_ns : 0;
}

void quasaur_guest_release(struct quasaur_guest *guest) {
  guest->next_released = released;
  released = guest;
  released_count++;
  (void)quasaur_sweep();
}

uint32_t quasaur_sweep(void) {
  struct quasaur_guest **link = &released;
  while (*link != NULL) {
    struct quasaur_guest *guest = *link;
    /* The stack may go only when the kernel has left it: joining without waiting tells. */
    if (pthread_tryjoin_np(guest->thread, NULL) == 0) {
      *link = guest->next_released;
      free_guest(guest);
      released_count--;
    } else {
      link = &guest->next_released;
    }
  }
  return released_count;
}
