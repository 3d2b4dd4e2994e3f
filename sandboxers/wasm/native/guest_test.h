/* What the C tests of the guest library share. guest_test.c holds the helpers and main(). */
#ifndef QUASAUR_GUEST_TEST_H
#define QUASAUR_GUEST_TEST_H

#include "guest.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

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

typedef uint64_t test_function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

struct test {
  const char *name;
  void (*run)(void);
};

/* Tables of tests, ended by a NULL name. */
extern const struct test filter_tests[];
extern const struct test supervisor_tests[];
extern const struct test fault_tests[];
extern const struct test name_tests[];
/* What ends the process, and runs in one of its own: see run_again. */
extern const struct test fatal_fault_tests[];
extern const struct test fatal_name_tests[];

extern int pipe_fds[2];

struct quasaur_spec spec_of(test_function *function, uint64_t id);
struct quasaur_guest *start(const struct quasaur_spec *spec, const struct quasaur_step *steps,
                            const void *data);
struct quasaur_record next_record(void);
/* Whether a record has come within so many milliseconds. */
bool has_record(int wait_ms);
/* The last record of a guest that was started alone. */
struct quasaur_record finish(struct quasaur_guest *guest);
/* Interrupts it until it has ended; its last record. */
struct quasaur_record interrupt_until_end(struct quasaur_guest *guest);
/* What the function returns, run as a guest with these settings. */
uint64_t result_of(test_function *function);
void sweep_all(void);
/* Runs this program again for a fatal test. Returns its status as waitpid(2) does. */
int run_again(const char *what);

#endif
