/*
 * The supervisor of a guest's system calls: it bounds what one guest takes of what belongs to the
 * process, its descriptors and its memory. The filter (filter.c) sends the calls that take or give
 * back such things here, by SIGSYS on the thread that makes them; they are made here, in its
 * place, and counted. Waits of the engine come here too, so that a pause does not end them. All
 * others, those that read and write above all, never come here.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* siginfo's si_code: a seccomp filter */
#endif

/* Descriptors from here on are counted, but whose they are is not known. */
#define OWNERS_MAX 1048576u

/* Which guest has made a descriptor: the lower half of its id. Pages exist where they are used. */
static _Atomic uint32_t *owners;
static uint64_t page_bytes;

struct call {
  int64_t number;
  uint64_t args[6];
};

static int64_t make(const struct call *call) {
  return quasaur_supervised_call(call->number, call->args);
}

static bool is_error(int64_t result) { return result < 0 && result >= -KERNEL_ERROR_MAX; }

/* ---- Descriptors. ---- */

/* Never 0, which is nobody's. */
static uint32_t owner_of(const struct quasaur_guest *guest) {
  return (uint32_t)(guest->spec.id % UINT32_MAX) + 1;
}

static int64_t make_descriptor(struct quasaur_guest *guest, const struct call *call) {
  const uint32_t held = atomic_load(&guest->descriptors);
  if (held >= guest->spec.descriptors_max) return -EMFILE;
  const int64_t result = make(call);
  if (is_error(result)) return result;
  atomic_store(&guest->descriptors, held + 1);
  if (result < OWNERS_MAX) atomic_store(&owners[result], owner_of(guest));
  return result;
}

static int64_t close_descriptor(struct quasaur_guest *guest, const struct call *call) {
  const uint32_t fd = (uint32_t)call->args[0];
  bool own = fd >= OWNERS_MAX;
  if (!own && atomic_load(&owners[fd]) == owner_of(guest)) {
    /* Before the call: afterwards the number may be somebody else's. */
    atomic_store(&owners[fd], 0);
    own = true;
  }
  const int64_t result = make(call);
  const uint32_t held = atomic_load(&guest->descriptors);
  if (own && held > 0 && result != -EBADF) atomic_store(&guest->descriptors, held - 1);
  return result;
}

/* ---- Memory. ---- */

/*
 * Beyond its bound the guest takes no more until it is asked to end: then it may, as it is on its
 * way, and an engine without memory would end the process. It waits no longer than
 * QUASAUR_WAIT_MS for each call, because it may hold a lock of the allocator that the host's thread
 * needs to ask it.
 */
static void wait_for_stop(struct quasaur_guest *guest) {
  if (!guest->exceeded) {
    guest->exceeded = true;
    quasaur_write_record(guest, QUASAUR_EXCEEDED, QUASAUR_BOUND_MEMORY, 0);
  }
  struct timespec until;
  if (clock_gettime(CLOCK_MONOTONIC, &until) != 0) return;
  until.tv_nsec += QUASAUR_WAIT_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  while (atomic_load(&guest->stop) == 0) {
    const struct call wait = {
        .number = SYS_futex,
        .args = {(uint64_t)(uintptr_t)&guest->stop, FUTEX_WAIT_BITSET_PRIVATE, 0,
                 (uint64_t)(uintptr_t)&until, 0, FUTEX_BITSET_MATCH_ANY},
    };
    const int64_t result = make(&wait);
    if (result != 0 && result != -EINTR) return; /* ETIMEDOUT; EAGAIN: it is asked */
  }
}

static void count_memory(struct quasaur_guest *guest, uintptr_t start, uintptr_t end, bool taken) {
  if (taken) {
    quasaur_memory_take(&guest->memory, start, end);
  } else {
    quasaur_memory_give(&guest->memory, start, end);
  }
  atomic_store(&guest->heap_bytes, quasaur_memory_bytes(&guest->memory));
}

/* Waits where the call would take `bytes` more than the guest may have. */
static void ask_for_memory(struct quasaur_guest *guest, uint64_t bytes) {
  const uint64_t held = atomic_load(&guest->heap_bytes);
  const uint64_t bound = guest->spec.heap_bytes_max;
  if (atomic_load(&guest->stop) != 0 || (held <= bound && bytes <= bound - held)) return;
  wait_for_stop(guest);
}

static uint64_t whole_pages(uint64_t bytes) { return (bytes + page_bytes - 1) & ~(page_bytes - 1); }

/*
 * mmap(2). At an address that the caller has fixed it is the engine, which makes a part of the
 * guest's reserved linear memory usable: that has a bound of its own, in the engine, and is not
 * counted here. The C library's allocator fixes no addresses of writable memory.
 */
static int64_t map(struct quasaur_guest *guest, const struct call *call) {
  const bool counts = (call->args[2] & PROT_WRITE) != 0 && (call->args[3] & MAP_FIXED) == 0 &&
                      (call->args[3] & MAP_PRIVATE) != 0;
  const uint64_t bytes = whole_pages(call->args[1]);
  if (counts) ask_for_memory(guest, bytes);
  const int64_t result = make(call);
  if (counts && !is_error(result)) {
    count_memory(guest, (uintptr_t)result, (uintptr_t)result + bytes, true);
  }
  return result;
}

static int64_t unmap(struct quasaur_guest *guest, const struct call *call) {
  const int64_t result = make(call);
  const uintptr_t start = (uintptr_t)call->args[0];
  if (result == 0) count_memory(guest, start, start + whole_pages(call->args[1]), false);
  return result;
}

/* mprotect(2): an arena of the allocator grows, and seldom shrinks, by it. */
static int64_t protect(struct quasaur_guest *guest, const struct call *call) {
  const uintptr_t start = (uintptr_t)call->args[0];
  const uint64_t bytes = whole_pages(call->args[1]);
  const bool writable = (call->args[2] & PROT_WRITE) != 0;
  if (writable) ask_for_memory(guest, bytes);
  const int64_t result = make(call);
  if (result == 0) count_memory(guest, start, start + bytes, writable);
  return result;
}

static int64_t remap(struct quasaur_guest *guest, const struct call *call) {
  const uintptr_t old_start = (uintptr_t)call->args[0];
  const uint64_t old_bytes = whole_pages(call->args[1]);
  const uint64_t bytes = whole_pages(call->args[2]);
  if (bytes > old_bytes) ask_for_memory(guest, bytes - old_bytes);
  const int64_t result = make(call);
  if (is_error(result)) return result;
  count_memory(guest, old_start, old_start + old_bytes, false);
  count_memory(guest, (uintptr_t)result, (uintptr_t)result + bytes, true);
  return result;
}

/* brk(2) of the arena that all threads may share: only what this thread adds and takes away. */
static int64_t move_break(struct quasaur_guest *guest, const struct call *call) {
  const struct call question = {.number = SYS_brk};
  const uintptr_t wanted = (uintptr_t)call->args[0];
  const uintptr_t old = (uintptr_t)make(&question);
  if (wanted > old) ask_for_memory(guest, wanted - old);
  const uintptr_t end = (uintptr_t)make(call);
  if (end > old) count_memory(guest, old, end, true);
  if (end < old) count_memory(guest, end, old, false);
  return (int64_t)end;
}

/* ---- Waiting. ---- */

static int64_t now_ms(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0;
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * epoll_wait(2): how the engine has guests sleep and wait. A thread that was frozen meanwhile comes
 * out of it with EINTR when it is thawed, which a sleeping guest knows nothing to do with: it goes
 * on waiting, unless it was asked to end.
 */
static int64_t wait_for_events(struct quasaur_guest *guest, struct call call) {
  const int64_t timeout_ms = (int32_t)call.args[3];
  const int64_t end_ms = timeout_ms > 0 ? now_ms() + timeout_ms : 0;
  for (;;) {
    const int64_t result = make(&call);
    if (result != -EINTR || atomic_load(&guest->stop) != 0) return result;
    if (timeout_ms > 0) {
      const int64_t left_ms = end_ms - now_ms();
      call.args[3] = (uint64_t)(left_ms > 0 ? left_ms : 0);
    }
  }
}

/* ---- The handler. ---- */

static int64_t supervise(struct quasaur_guest *guest, const struct call *call) {
  if (guest == NULL) return make(call); /* a starter's */
  switch (call->number) {
    case SYS_close:
      return close_descriptor(guest, call);
    case SYS_mmap:
      return map(guest, call);
    case SYS_munmap:
      return unmap(guest, call);
    case SYS_mprotect:
      return protect(guest, call);
    case SYS_mremap:
      return remap(guest, call);
    case SYS_brk:
      return move_break(guest, call);
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
      return wait_for_events(guest, *call);
    default:
      return make_descriptor(guest, call);
  }
}

#if defined(__x86_64__)
static struct call read_call(const ucontext_t *user) {
  const greg_t *registers = user->uc_mcontext.gregs;
  return (struct call){
      .number = registers[REG_RAX],
      .args = {(uint64_t)registers[REG_RDI], (uint64_t)registers[REG_RSI],
               (uint64_t)registers[REG_RDX], (uint64_t)registers[REG_R10],
               (uint64_t)registers[REG_R8], (uint64_t)registers[REG_R9]},
  };
}

static void write_result(ucontext_t *user, int64_t result) {
  user->uc_mcontext.gregs[REG_RAX] = result;
}
#elif defined(__aarch64__)
static struct call read_call(const ucontext_t *user) {
  const unsigned long long *registers = (const unsigned long long *)user->uc_mcontext.regs;
  return (struct call){
      .number = (int64_t)registers[8],
      .args = {registers[0], registers[1], registers[2], registers[3], registers[4], registers[5]},
  };
}

static void write_result(ucontext_t *user, int64_t result) {
  user->uc_mcontext.regs[0] = (unsigned long long)result;
}
#endif

static struct sigaction before;

static void on_call(int number, siginfo_t *info, void *context) {
  const int error = errno;
  if (info->si_code != SYS_SECCOMP) {
    /* Nobody here asked for it. */
    (void)sigaction(number, &before, NULL);
    (void)raise(number);
    return;
  }
  const struct call call = read_call(context);
  write_result(context, supervise(quasaur_current, &call));
  errno = error;
}

/* Installs the handler. Returns 0 or an errno. */
int quasaur_supervisor_init(void) {
  if (owners != NULL) return 0;
  void *table = mmap(NULL, sizeof *owners * OWNERS_MAX, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return errno;
  owners = table;
  page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
  struct sigaction action = {.sa_sigaction = on_call};
  /* Not SA_RESTART: a call that the interrupt ends is not made again. With the signal blocked, a
   * call that comes here from within the handler would end the process. */
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGSYS, &action, &before) == 0 ? 0 : errno;
}

uint64_t quasaur_guest_heap_bytes(const struct quasaur_guest *guest) {
  return atomic_load(&guest->heap_bytes);
}

uint32_t quasaur_guest_descriptors(const struct quasaur_guest *guest) {
  return atomic_load(&guest->descriptors);
}
