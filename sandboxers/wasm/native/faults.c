/*
 * Faults and interrupts of guests, compiled ones above all.
 *
 * Compiled code finds out of its memory's end, and of its stack's, by a fault: the engine's handler
 * of SIGSEGV, SIGBUS and SIGFPE leaves it by longjmp(3). Engines think that the process is theirs:
 * WasmEdge installs the handlers when the first compiled call begins, takes them away when the last
 * ends (one may still be between the two), and takes every fault for a guest's. So the engine's
 * handlers are kept from changing by a compiled guest that never ends, and ours stands before them
 * (quasaur_pin_fault_handlers): it passes on what compiled code of a guest has caused, and gives
 * everything else to the handler that was there before the engine: a crash stays a crash.
 *
 * The same way out serves to end a guest that computes (quasaur_guest_interrupt), so its code needs
 * no checks for that, which would take more than half of its speed.
 *
 * Compiled code calls the engine through a table. The engine must not meet the end of the stack,
 * where it could be left in the middle of anything, with a lock held. So the table is
 * replaced by one whose entries look first whether enough of the stack is left.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

_Thread_local struct quasaur_guest *quasaur_current
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Calls from compiled code into the engine fail below this address of the stack. */
extern _Thread_local uintptr_t quasaur_stack_limit;
_Thread_local uintptr_t quasaur_stack_limit
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* What the engine's functions may use of the stack: getaddrinfo(3) alone takes 100 KiB. */
#define ENGINE_STACK_BYTES 524288u

typedef void fault_handler(int, siginfo_t *, void *);

static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE};
#define FAULT_COUNT (sizeof FAULTS / sizeof FAULTS[0])

/* What was there before the engine. Written once, before there are guests. */
static struct sigaction before[FAULT_COUNT];
static bool before_is_known;
/* The engine's. NULL until it is pinned. */
static _Atomic(fault_handler *) engine_handler;

/*
 * Compiled code, for the handlers: they read it without locks. A slot is empty while its end is 0.
 * The end is written last and taken away first, and a reader looks at it twice.
 */
struct code_slot {
  atomic_uintptr_t start;
  atomic_uintptr_t end;
  uint32_t owner; /* what quasaur_add_code has returned for it */
};
static struct code_slot code[QUASAUR_CODE_MAX];
static atomic_uint code_used; /* slots from here on were never used */
static uint32_t last_owner;

int quasaur_interrupt_signal(void) { return SIGRTMIN + 5; }

/* ---- The entries of the engine's table. ---- */

#define TABLE_MAX 96
#define TEXT(value) #value
#define NUMBER(value) TEXT(value)

/* What the entries lead to, and their addresses in the same order. */
extern uintptr_t quasaur_engine_table[TABLE_MAX];
uintptr_t quasaur_engine_table[TABLE_MAX] __attribute__((visibility("hidden")));
static uintptr_t guarded_table[TABLE_MAX];
static const uintptr_t *engine_table;
extern const char quasaur_entries[];
extern const char quasaur_entries_end[];

/* Scratch registers that a call may change anyway; a load from address 0 is the way out. */
#if defined(__x86_64__)
#define ENTRY_BYTES 32u
__asm__(
    "  .text\n"
    "  .p2align 5\n"
    "  .globl quasaur_entries, quasaur_entries_end\n"
    "  .hidden quasaur_entries, quasaur_entries_end\n"
    "quasaur_entries:\n"
    "  .cfi_startproc\n"
    "  .set index, 0\n"
    "  .rept " NUMBER(TABLE_MAX) "\n"
    "  mov quasaur_stack_limit@gottpoff(%rip), %r11\n"
    "  cmp %fs:(%r11), %rsp\n"
    "  jb 1f\n"
    "  jmp *(quasaur_engine_table + 8 * index)(%rip)\n"
    "1: xor %r11d, %r11d\n"
    "  mov (%r11), %r11\n"
    "  .p2align 5\n"
    "  .set index, index + 1\n"
    "  .endr\n"
    "  .cfi_endproc\n"
    "quasaur_entries_end:\n");
#elif defined(__aarch64__)
#define ENTRY_BYTES 64u
__asm__(
    "  .text\n"
    "  .p2align 6\n"
    "  .globl quasaur_entries, quasaur_entries_end\n"
    "  .hidden quasaur_entries, quasaur_entries_end\n"
    "quasaur_entries:\n"
    "  .cfi_startproc\n"
    "  .set index, 0\n"
    "  .rept " NUMBER(TABLE_MAX) "\n"
    "  mrs x16, tpidr_el0\n"
    "  adrp x17, :gottprel:quasaur_stack_limit\n"
    "  ldr x17, [x17, :gottprel_lo12:quasaur_stack_limit]\n"
    "  ldr x16, [x16, x17]\n"
    "  mov x17, sp\n"
    "  cmp x17, x16\n"
    "  b.lo 1f\n"
    "  adrp x17, quasaur_engine_table + 8 * index\n"
    "  ldr x17, [x17, :lo12:quasaur_engine_table + 8 * index]\n"
    "  br x17\n"
    "1: mov x16, #0\n"
    "  ldr x16, [x16]\n"
    "  .p2align 6\n"
    "  .set index, index + 1\n"
    "  .endr\n"
    "  .cfi_endproc\n"
    "quasaur_entries_end:\n");
#endif

/* ---- The handlers. ---- */

static uintptr_t program_counter(const void *context) {
  const ucontext_t *user = context;
#if defined(__x86_64__)
  return (uintptr_t)user->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (uintptr_t)user->uc_mcontext.pc;
#endif
}

static bool is_code(uintptr_t address) {
  const uint32_t used = atomic_load(&code_used);
  for (uint32_t i = 0; i < used; i++) {
    const uintptr_t end = atomic_load(&code[i].end);
    const uintptr_t start = atomic_load(&code[i].start);
    if (address >= start && address < end && atomic_load(&code[i].end) == end) return true;
  }
  return false;
}

static bool is_entry(uintptr_t address) {
  return address >= (uintptr_t)quasaur_entries && address < (uintptr_t)quasaur_entries_end;
}

/* Below the stack, where code without a table, such as a copy of memory, may run into the end. */
static bool is_guard(const struct quasaur_guest *guest, uintptr_t address) {
  const uintptr_t start = (uintptr_t)guest->stacks.mapping;
  return address >= start && address < (uintptr_t)guest->stacks.stack;
}

/*
 * Gives a fault that no guest's code has caused to the handler that was there before the engine:
 * with it in place again, the instruction that failed is run once more. What follows is its
 * business; without one, it is the end of the process.
 */
static void give_back(int number, const siginfo_t *info) {
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    if (FAULTS[i] == number) (void)sigaction(number, &before[i], NULL);
  }
  if (info->si_code > 0) return;
  /* A signal that somebody has sent, and no instruction caused, would be lost. A guest's thread
   * cannot send it again: it fails in the same way. */
  if (raise(number) != 0) *(volatile int *)NULL = 0;
}

static void on_fault(int number, siginfo_t *info, void *context) {
  const int error = errno;
  struct quasaur_guest *guest = quasaur_current;
  const uintptr_t address = program_counter(context);
  const bool overflowed =
      guest != NULL && (is_entry(address) ||
                        (number == SIGSEGV && is_guard(guest, (uintptr_t)info->si_addr)));
  if (guest != NULL && info->si_code > 0 && (overflowed || is_code(address))) {
    guest->overflowed = overflowed;
    atomic_load (&engine_handler)(number, info, context); /* does not return */
  }
  give_back(number, info);
  errno = error;
}

/*
 * Its first effect is that the interrupted system call returns EINTR. In compiled code of a guest
 * that is to end, it ends it there; elsewhere, the next call from compiled code into the engine
 * will, as there is no stack left for it.
 */
static void on_interrupt(int number, siginfo_t *info, void *context) {
  const struct quasaur_guest *guest = quasaur_current;
  if (guest == NULL || atomic_load(&guest->stop) == 0) return;
  quasaur_stack_limit = UINTPTR_MAX;
  fault_handler *handler = atomic_load(&engine_handler);
  if (handler == NULL || !is_code(program_counter(context))) return;
  /* The handler is left by longjmp(3), which does not bring the signal mask back. */
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, number);
  (void)pthread_sigmask(SIG_UNBLOCK, &own, NULL);
  handler(SIGSEGV, info, context);
}

/* Called on the guest's thread before its function, and after it. */
void quasaur_faults_enter(const struct quasaur_guest *guest) {
  const size_t bytes = guest->stacks.stack_bytes;
  const size_t reserve = bytes / 4 < ENGINE_STACK_BYTES ? bytes / 4 : ENGINE_STACK_BYTES;
  quasaur_stack_limit = (uintptr_t)guest->stacks.stack + reserve;
}

void quasaur_faults_leave(void) { quasaur_stack_limit = 0; }

/* Remembers the handlers that are there before the engine's, and installs the interrupt's. */
int quasaur_faults_init(void) {
  if (before_is_known) return 0;
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    if (sigaction(FAULTS[i], NULL, &before[i]) != 0) return errno;
  }
  struct sigaction action = {.sa_sigaction = on_interrupt};
  action.sa_flags = SA_SIGINFO | SA_ONSTACK; /* and not SA_RESTART */
  sigemptyset(&action.sa_mask);
  if (sigaction(quasaur_interrupt_signal(), &action, NULL) != 0) return errno;
  before_is_known = true;
  return 0;
}

/* The handler that all three faults have; NULL when there is none, or not the same for all. */
static fault_handler *common_handler(void) {
  fault_handler *handler = NULL;
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    struct sigaction action;
    if (sigaction(FAULTS[i], NULL, &action) != 0) return NULL;
    if (!(action.sa_flags & SA_SIGINFO) || action.sa_sigaction == before[i].sa_sigaction) {
      return NULL;
    }
    if (i > 0 && action.sa_sigaction != handler) return NULL;
    handler = action.sa_sigaction;
  }
  return handler;
}

int32_t quasaur_pin_fault_handlers(void) {
  fault_handler *handler = common_handler();
  if (handler == NULL) return ENOENT;
  if (handler == on_fault) return 0;
  atomic_store(&engine_handler, handler);
  struct sigaction action = {.sa_sigaction = on_fault};
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < FAULT_COUNT; i++) {
    if (sigaction(FAULTS[i], &action, NULL) != 0) return errno;
  }
  return 0;
}

/* ---- The table of code. ---- */

struct search {
  const struct link_map *object;
  uint32_t owner;
  int error;
};

static int register_range(uintptr_t start, uintptr_t end, uint32_t owner) {
  for (uint32_t i = 0; i < QUASAUR_CODE_MAX; i++) {
    if (atomic_load(&code[i].end) != 0) continue;
    code[i].owner = owner;
    atomic_store(&code[i].start, start);
    atomic_store(&code[i].end, end);
    if (i >= atomic_load(&code_used)) atomic_store(&code_used, i + 1);
    return 0;
  }
  return ENOSPC;
}

static int visit_object(struct dl_phdr_info *info, size_t size, void *argument) {
  (void)size;
  struct search *search = argument;
  if (info->dlpi_addr != search->object->l_addr) return 0;
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    if (header->p_type != PT_LOAD || !(header->p_flags & PF_X)) continue;
    const uintptr_t start = info->dlpi_addr + header->p_vaddr;
    search->error = register_range(start, start + header->p_memsz, search->owner);
    if (search->error != 0) return 1;
  }
  return 1;
}

/* Where the segment of a loaded object that holds an address ends. */
struct segment {
  uintptr_t address;
  uintptr_t end;
};

static int visit_segment(struct dl_phdr_info *info, size_t size, void *argument) {
  (void)size;
  struct segment *segment = argument;
  for (size_t i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + header->p_vaddr;
    const uintptr_t end = start + header->p_memsz;
    if (header->p_type != PT_LOAD || segment->address < start || segment->address >= end) continue;
    segment->end = end;
    return 1;
  }
  return 0;
}

/*
 * Copies the engine's table and makes ours. How long it is, the engine does not say: what lies
 * behind it is copied too, as far as there is something, and never used.
 */
static int copy_table(const uintptr_t *table) {
  struct segment segment = {.address = (uintptr_t)table};
  if (dl_iterate_phdr(visit_segment, &segment) == 0) return EINVAL;
  for (size_t i = 0; i < TABLE_MAX && (uintptr_t)&table[i + 1] <= segment.end; i++) {
    quasaur_engine_table[i] = table[i];
    guarded_table[i] = (uintptr_t)quasaur_entries + i * ENTRY_BYTES;
  }
  engine_table = table;
  return 0;
}

/*
 * Puts our table in the place of the engine's: `pointer` is the compiled code's pointer to it,
 * which the engine has set when it loaded the code.
 */
static int guard_table(const uintptr_t **pointer) {
  if (*pointer == NULL || *pointer == guarded_table) return 0;
  if (engine_table == NULL) {
    const int error = copy_table(*pointer);
    if (error != 0) return error;
  }
  if (*pointer != engine_table) return EINVAL;
  *pointer = guarded_table;
  return 0;
}

int32_t quasaur_add_code(const char *path) {
  void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (library == NULL) return -ENOENT;
  struct link_map *object = NULL;
  struct search search = {.owner = ++last_owner, .error = ENOENT};
  if (dlinfo(library, RTLD_DI_LINKMAP, &object) == 0) {
    search.object = object;
    (void)dl_iterate_phdr(visit_object, &search);
  }
  const uintptr_t **table = (const uintptr_t **)dlsym(library, "intrinsics");
  if (search.error == 0 && table != NULL) search.error = guard_table(table);
  (void)dlclose(library);
  if (search.error == 0) return (int32_t)search.owner;
  (void)quasaur_remove_code((int32_t)search.owner);
  return -search.error;
}

int32_t quasaur_remove_code(int32_t owner) {
  int32_t removed = 0;
  for (uint32_t i = 0; i < atomic_load(&code_used); i++) {
    if (owner <= 0 || code[i].owner != (uint32_t)owner || atomic_load(&code[i].end) == 0) continue;
    atomic_store(&code[i].end, 0);
    atomic_store(&code[i].start, 0);
    code[i].owner = 0;
    removed++;
  }
  return removed > 0 ? 0 : ENOENT;
}
