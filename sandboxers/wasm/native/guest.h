/*
 * Guest threads: the C part of the wasm sandboxer.
 *
 * A guest is one call of one function on a thread of its own. Before the call the thread puts
 * itself into its sandbox by an ordered list of raw system calls; how the call ended is told by a
 * record on a pipe, so that no thread of the host waits for it. Everything here is called from one
 * thread of the host (the JavaScript one), except what says otherwise.
 *
 * The structures are written byte by byte by threads.ts: change both, and the assertions in
 * guest.c.
 */
#ifndef QUASAUR_GUEST_H
#define QUASAUR_GUEST_H

#include <stdint.h>

#define QUASAUR_EXPORT __attribute__((visibility("default")))
#define QUASAUR_NAME_BYTES 16u   /* TASK_COMM_LEN, with the final NUL */
#define QUASAUR_STEPS_MAX 64u    /* settings of one thread */
#define QUASAUR_DATA_MAX 65536u  /* bytes of strings and structures that settings point to */

/* One setting of a thread: a raw system call. A result of -4095..-1 fails it. */
struct quasaur_step {
  int64_t number;
  uint64_t args[6];
  uint32_t data_args; /* bit i: args[i] is an offset into the data of the spec, not a value */
  uint32_t reserved;
};

/* What to run, and how. */
struct quasaur_spec {
  uint64_t id;       /* comes back in every record */
  uint64_t function; /* address of: uint64_t function(uint64_t, ... six of them) */
  uint64_t args[6];
  uint64_t stack_bytes;
  uint64_t guard_bytes; /* unmapped bytes below the stack */
  int32_t record_fd;    /* write end of a pipe */
  int32_t nice;
  uint32_t step_count;
  uint32_t data_bytes;
  char name[QUASAUR_NAME_BYTES];
};

enum quasaur_record_kind {
  QUASAUR_RUNNING = 1,  /* all settings are made, the function is called next; value: thread id */
  QUASAUR_RETURNED = 2, /* the function has returned; value: what it returned */
  QUASAUR_REFUSED = 3,  /* a setting failed, the function was not called; value: errno */
};

/* Settings that every thread gets, as they are numbered in a QUASAUR_REFUSED record. */
enum quasaur_own_step {
  QUASAUR_STEP_NAME = 1000,
  QUASAUR_STEP_NICE = 1001,
  QUASAUR_STEP_NO_NEW_PRIVS = 1002,
  QUASAUR_STEP_SECCOMP = 1003,
  QUASAUR_STEP_STACK = 1004,
};

/* What a thread writes to its pipe: one write of 32 bytes, which a pipe never tears. */
struct quasaur_record {
  uint64_t id;
  uint64_t value;
  uint64_t cpu_ns; /* CPU time of the whole run; 0 in QUASAUR_RUNNING */
  uint32_t kind;
  uint32_t step; /* QUASAUR_REFUSED: index in the caller's list, or a quasaur_own_step */
};

struct quasaur_guest;

/* Prepares the process: the handler of the interrupt signal. Returns 0 or an errno. */
QUASAUR_EXPORT int32_t quasaur_init(void);

/*
 * Starts a thread. spec, steps (spec->step_count of them) and data (spec->data_bytes) are copied.
 * Returns the guest, to be given to quasaur_guest_release once; or NULL with *error set to an
 * errno.
 */
QUASAUR_EXPORT struct quasaur_guest *quasaur_guest_start(const struct quasaur_spec *spec,
                                                         const struct quasaur_step *steps,
                                                         const uint8_t *data, int32_t *error);

/*
 * Makes a blocked system call of the guest return EINTR. Returns 0 when the signal was sent, EAGAIN
 * while the settings are still being made, ESRCH once the function has returned.
 */
QUASAUR_EXPORT int32_t quasaur_guest_interrupt(struct quasaur_guest *guest);

/* Whether the function has not returned yet: 1 or 0. */
QUASAUR_EXPORT int32_t quasaur_guest_is_running(const struct quasaur_guest *guest);

/* CPU time in nanoseconds; of the whole run once the thread has ended. */
QUASAUR_EXPORT int64_t quasaur_guest_cpu_ns(struct quasaur_guest *guest);

/*
 * Gives the guest up after its last record (RETURNED or REFUSED) was read. The memory goes as soon
 * as the kernel has let go of the thread: at once, or in a later quasaur_sweep. Never waits.
 */
QUASAUR_EXPORT void quasaur_guest_release(struct quasaur_guest *guest);

/* Frees released guests whose threads are gone. Returns how many are left. */
QUASAUR_EXPORT uint32_t quasaur_sweep(void);

/* The address of a function of the engine or the C library; 0 when there is none of that name. */
QUASAUR_EXPORT uint64_t quasaur_symbol(const char *name);

/* A raw system call: its result, or a negative errno. May be called from any thread. */
QUASAUR_EXPORT int64_t quasaur_syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d,
                                       int64_t e, int64_t f);

#endif
