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
#define QUASAUR_DATA_MAX 131072u /* bytes of what settings point to, and of the filter */
#define QUASAUR_WAIT_MS 100      /* most that a guest beyond its bound waits in one call */
#define QUASAUR_CODE_MAX 1024u   /* segments of compiled code */

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
  uint64_t heap_bytes_max;  /* what the thread may take of memory; UINT64_MAX for no bound */
  uint32_t descriptors_max; /* what it may hold of descriptors; UINT32_MAX for no bound */
  uint32_t filter_at;       /* offset into the data of struct sock_filter[filter_count] */
  uint32_t filter_count;    /* 0 for none */
  uint32_t reserved;
};

enum quasaur_record_kind {
  QUASAUR_RUNNING = 1,  /* all settings are made, the function is called next; value: thread id */
  QUASAUR_RETURNED = 2, /* the function has returned; value: what it returned */
  QUASAUR_REFUSED = 3,  /* a setting failed, the function was not called; value: errno */
  QUASAUR_EXCEEDED = 4, /* the thread is beyond a bound; value: a quasaur_bound. At most once */
};

enum quasaur_bound {
  QUASAUR_BOUND_MEMORY = 1, /* it waits to be interrupted, for QUASAUR_WAIT_MS at a time */
};

/* Settings that every thread gets, as they are numbered in a QUASAUR_REFUSED record. */
enum quasaur_own_step {
  QUASAUR_STEP_NAME = 1000,
  QUASAUR_STEP_NICE = 1001,
  QUASAUR_STEP_STACK = 1004,
  QUASAUR_STEP_THREAD = 1005, /* there is no thread */
};

/* What a thread writes to its pipe: one write of 32 bytes, which a pipe never tears. */
struct quasaur_record {
  uint64_t id;
  uint64_t value;
  uint64_t cpu_ns; /* CPU time of the whole run; 0 in QUASAUR_RUNNING */
  uint32_t kind;
  /* QUASAUR_REFUSED: index in the caller's list, or a quasaur_own_step. QUASAUR_RETURNED: 1 when
   * the last fault of its compiled code was at the end of its stack, else 0. */
  uint32_t step;
};

struct quasaur_guest;

/*
 * Prepares the process: signal handlers, name resolution. Called before the engine's first function
 * that runs compiled code. Returns 0 or an errno.
 */
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
 * Asks the guest to end: a blocked system call of it returns EINTR; compiled code of it that
 * computes is left there and then, or at its next call into the engine. To be repeated until it has
 * ended, as it may be between two calls. Returns 0 when the signal was sent, EAGAIN
 * while the settings are still being made, ESRCH once the function has returned.
 */
QUASAUR_EXPORT int32_t quasaur_guest_interrupt(struct quasaur_guest *guest);

/*
 * Looks for up to `wait_us` microseconds whether the settings are made, without going to sleep: the
 * thread is usually there before the record about it could be read. Returns its id, or 0 when it is
 * not known yet or a setting has failed: then the record tells.
 */
QUASAUR_EXPORT int32_t quasaur_guest_await(const struct quasaur_guest *guest, uint32_t wait_us);

/* Whether the function has not returned yet: 1 or 0. */
QUASAUR_EXPORT int32_t quasaur_guest_is_running(const struct quasaur_guest *guest);

/* CPU time in nanoseconds; of the whole run once the thread has ended. */
QUASAUR_EXPORT int64_t quasaur_guest_cpu_ns(struct quasaur_guest *guest);

/* Memory in bytes and descriptors that the thread has taken and not given back. */
QUASAUR_EXPORT uint64_t quasaur_guest_heap_bytes(const struct quasaur_guest *guest);
QUASAUR_EXPORT uint32_t quasaur_guest_descriptors(const struct quasaur_guest *guest);

/*
 * Makes the engine's fault handlers stay and work for guests: called once while a compiled guest
 * runs that never ends, and before any other does. Returns 0; ENOENT when the engine's handlers are
 * not in place; or another errno.
 */
QUASAUR_EXPORT int32_t quasaur_pin_fault_handlers(void);

/*
 * Makes the executable segments of a loaded shared object known as compiled code of guests, and has
 * it check its stack when it calls the engine. path: as it was loaded by. Returns a positive number
 * for quasaur_remove_code; -ENOENT when it is not loaded, -ENOSPC when there is no room, -EINVAL
 * when it is of another engine.
 */
QUASAUR_EXPORT int32_t quasaur_add_code(const char *path);

/* Before the object is unloaded. Returns 0, or ENOENT for a number that is not in use. */
QUASAUR_EXPORT int32_t quasaur_remove_code(int32_t number);

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
