/*
 * What the C files of the guest threads share with each other, and with nobody else. guest.h is
 * what the host sees.
 */
#ifndef QUASAUR_INTERNAL_H
#define QUASAUR_INTERNAL_H

#include "guest.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

#if defined(__x86_64__)
#define GUEST_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define GUEST_ARCH AUDIT_ARCH_AARCH64
#else
#error "guest threads: only x86-64 and aarch64 are supported"
#endif

#define SIGNAL_STACK_BYTES 65536u
#define KERNEL_ERROR_MAX 4095

/* Ranges of memory that a guest's thread has made writable; see memory.c. */
#define RANGES_MAX 128u
struct memory_range {
  uintptr_t start;
  uintptr_t end;
};
struct memory_account {
  struct memory_range ranges[RANGES_MAX]; /* by address, apart from each other */
  uint32_t count;
  uint64_t untracked_bytes; /* taken while the table was full; never given back */
};

/* One mapping with the two stacks of a guest; see stacks.c. */
struct guest_stacks {
  uint8_t *mapping;
  size_t mapping_bytes;
  uint8_t *stack;
  size_t stack_bytes;
  uint8_t *signal_stack;
};

struct quasaur_guest {
  struct quasaur_spec spec;
  pthread_t thread;
  atomic_uint gate;
  atomic_uint stop;  /* 1 from the first interrupt on; a futex */
  atomic_bool ended; /* cpu_ns is final */
  atomic_int tid;    /* set when the function is called next; -1 when it never will be */
  uint64_t cpu_ns;
  struct guest_stacks stacks;
  bool has_thread; /* false when none could be made */
  /* What the thread holds. Only the thread writes them. */
  atomic_uint descriptors;
  atomic_ullong heap_bytes;
  bool exceeded;
  bool overflowed; /* its last fault was at the end of its stack */
  struct memory_account memory;
  uint8_t *data;
  struct quasaur_guest *next; /* in the starter's queue, later among the released */
  struct quasaur_step steps[];
};

/*
 * The guest of this thread while its function runs and until the thread ends; NULL on all other
 * threads. Initial-exec, so that signal handlers read them without a call into the loader.
 */
extern _Thread_local struct quasaur_guest *quasaur_current
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* guest.c */
void *quasaur_guest_main(void *guest);
int quasaur_block_signals(void);
void quasaur_write_record(const struct quasaur_guest *guest, enum quasaur_record_kind kind,
                          uint64_t value, uint32_t step);

/* stacks.c */
int quasaur_stacks_take(struct guest_stacks *stacks, uint64_t stack_bytes, uint64_t guard_bytes);
void quasaur_stacks_give(struct guest_stacks *stacks);

/* faults.c */
int quasaur_interrupt_signal(void);
int quasaur_faults_init(void);
void quasaur_faults_enter(const struct quasaur_guest *guest);
void quasaur_faults_leave(void);

/* filter.c */
struct filter_frame {
  uintptr_t start; /* the stack of the starter */
  uintptr_t end;
  int32_t record_fd;
};
bool quasaur_filter_is_sound(const struct sock_filter *filter, uint32_t count);
int quasaur_filter_enforce(const struct filter_frame *frame, const struct sock_filter *filter,
                           uint32_t count);

/* starters.c */
void quasaur_starters_sweep(void);
int quasaur_starter_give(struct quasaur_guest *guest, const struct sock_filter *filter,
                         uint32_t count);

/* supervisor.c */
int quasaur_supervisor_init(void);

/* memory.c */
void quasaur_memory_take(struct memory_account *account, uintptr_t start, uintptr_t end);
void quasaur_memory_give(struct memory_account *account, uintptr_t start, uintptr_t end);
uint64_t quasaur_memory_bytes(const struct memory_account *account);

/*
 * calls.c: the system call that filters know by its address. number and six arguments; the result,
 * or a negative errno.
 */
int64_t quasaur_supervised_call(int64_t number, const uint64_t args[6]);
/* What seccomp_data.instruction_pointer is for it. */
extern const char quasaur_supervised_return[];

#endif
