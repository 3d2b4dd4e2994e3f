/* Tests of supervisor.c and memory.c: see guest_test.c. */
#define _GNU_SOURCE
#include "guest_test.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f
#define UNUSED (void)a, (void)b, (void)c, (void)d, (void)e, (void)f
#define MIB 1048576u

/* ---- Descriptors. ---- */

#define DESCRIPTORS 5u

static uint64_t hold_descriptors(uint64_t borrowed, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                                 uint64_t f) {
  (void)b, (void)c, (void)d, (void)e, (void)f;
  const struct quasaur_guest *self = quasaur_current;
  int held[DESCRIPTORS];
  held[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
  held[1] = dup(held[0]);
  held[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  held[3] = epoll_create1(EPOLL_CLOEXEC);
  held[4] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  for (size_t i = 0; i < DESCRIPTORS; i++) {
    if (held[i] < 0) return 100 + i;
  }
  if (quasaur_guest_descriptors(self) != DESCRIPTORS) return 1;
  if (open("/dev/null", O_RDONLY) != -1 || errno != EMFILE) return 2;
  if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EMFILE) return 3;
  if (dup(0) != -1 || errno != EMFILE) return 4;
  /* What is not its own makes no room. */
  if (close((int)borrowed) != 0) return 5;
  if (close(-1) != -1 || errno != EBADF) return 6;
  if (open("/dev/null", O_RDONLY) != -1 || errno != EMFILE) return 7;
  close(held[2]);
  if (quasaur_guest_descriptors(self) != DESCRIPTORS - 1) return 8;
  held[2] = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (held[2] < 0) return 9;
  /* A call that fails takes none. */
  close(held[4]);
  if (open("/nowhere/at/all", O_RDONLY) != -1 || errno != ENOENT) return 10;
  if (quasaur_guest_descriptors(self) != DESCRIPTORS - 1) return 11;
  for (size_t i = 0; i < DESCRIPTORS - 1; i++) close(held[i]);
  return quasaur_guest_descriptors(self) == 0 ? 0 : 12;
}

static void bounds_the_descriptors_of_a_guest(void) {
  for (int i = 0; i < 3; i++) {
    const int borrowed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct quasaur_spec spec = spec_of(hold_descriptors, 1);
    spec.descriptors_max = DESCRIPTORS;
    spec.args[0] = (uint64_t)borrowed;
    CHECK(finish(start(&spec, NULL, NULL)).value == 0);
    CHECK(fcntl(borrowed, F_GETFD) == -1);
  }
}

/* Another guest's descriptors, left open by a guest that has ended, are not the next one's. */
static uint64_t leave_open(ARGUMENTS) {
  UNUSED;
  return (uint64_t)open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static uint64_t close_given(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                            uint64_t f) {
  (void)b, (void)c, (void)d, (void)e, (void)f;
  const int own = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (close((int)fd) != 0) return 100;
  const uint64_t held = quasaur_guest_descriptors(quasaur_current);
  close(own);
  return held;
}

static void a_descriptor_of_another_guest_makes_no_room(void) {
  struct quasaur_spec spec = spec_of(leave_open, 2);
  const uint64_t fd = finish(start(&spec, NULL, NULL)).value;
  spec = spec_of(close_given, 3);
  spec.args[0] = fd;
  CHECK(finish(start(&spec, NULL, NULL)).value == 1);
}

/* ---- Memory. ---- */

static uint64_t held_bytes(void) { return quasaur_guest_heap_bytes(quasaur_current); }

/* Returns 0, or the number of the check that failed. */
static uint64_t use_memory(ARGUMENTS) {
  UNUSED;
  const uint64_t before = held_bytes();
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  uint8_t *map = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (map == MAP_FAILED || held_bytes() != before + 4 * MIB) return 1;
  if (munmap(map + MIB, MIB) != 0 || held_bytes() != before + 3 * MIB) return 2;
  if (mprotect(map, MIB, PROT_NONE) != 0 || held_bytes() != before + 2 * MIB) return 3;
  if (mprotect(map, MIB, PROT_READ | PROT_WRITE) != 0 || held_bytes() != before + 3 * MIB) return 4;
  if (mprotect(map, MIB, PROT_READ | PROT_WRITE) != 0 || held_bytes() != before + 3 * MIB) return 5;
  if (munmap(map, MIB) != 0) return 6;
  map = mremap(map + 2 * MIB, 2 * MIB, 8 * MIB, MREMAP_MAYMOVE);
  if (map == MAP_FAILED || held_bytes() != before + 8 * MIB) return 7;
  map[8 * MIB - 1] = 1;
  if (munmap(map, 8 * MIB) != 0 || held_bytes() != before) return 8;
  /* A reservation, and what the engine makes of it. */
  map = mmap(NULL, 16 * MIB, PROT_NONE, flags | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED || held_bytes() != before) return 9;
  if (mmap(map, 2 * MIB, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0) != map) return 10;
  if (held_bytes() != before) return 11;
  map[2 * MIB - 1] = 1;
  if (munmap(map, 16 * MIB) != 0 || held_bytes() != before) return 12;
#if !defined(__SANITIZE_ADDRESS__) /* which has an allocator of its own */
  /* The C library's allocator, with blocks so large that each is a mapping of its own. */
  char *block = malloc(40 * MIB);
  if (block == NULL || held_bytes() < before + 40 * MIB) return 13;
  block = realloc(block, 64 * MIB);
  if (block == NULL || held_bytes() < before + 64 * MIB) return 14;
  free(block);
  if (held_bytes() >= before + MIB) return 15;
#endif
  return 0;
}

static void counts_the_memory_of_a_guest(void) {
  struct quasaur_spec spec = spec_of(use_memory, 1);
  CHECK(finish(start(&spec, NULL, NULL)).value == 0);
}

static atomic_uint blocks_taken;

/* Takes memory as an endless recursion does, until it is asked to end. */
static uint64_t take_all(ARGUMENTS) {
  UNUSED;
  for (unsigned i = 0; i < 64; i++) {
    void *map = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return 1000;
    atomic_store(&blocks_taken, i + 1);
    if (atomic_load(&quasaur_current->stop) != 0) return i + 1;
  }
  return 2000;
}

static void waits_at_the_bound_until_it_is_asked_to_end(void) {
  struct quasaur_spec spec = spec_of(take_all, 77);
  spec.heap_bytes_max = 4 * MIB;
  atomic_store(&blocks_taken, 0);
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  CHECK(next_record().kind == QUASAUR_RUNNING);
  const struct quasaur_record record = next_record();
  CHECK(record.kind == QUASAUR_EXCEEDED && record.id == 77);
  CHECK(record.value == QUASAUR_BOUND_MEMORY);
  CHECK(atomic_load(&blocks_taken) <= 4);
  CHECK(quasaur_guest_heap_bytes(guest) <= 4 * MIB);
  const struct quasaur_record end = interrupt_until_end(guest);
  /* Asked to end it goes on, with what it has asked for: nothing failed. */
  CHECK(end.kind == QUASAUR_RETURNED && end.value > 0 && end.value < 64);
}

/* Nobody asks it to end, as if the host's thread waited for a lock that the guest holds. */
static void waits_at_the_bound_for_a_while_only(void) {
  struct quasaur_spec spec = spec_of(take_all, 1);
  spec.heap_bytes_max = 60 * MIB;
  struct quasaur_guest *guest = start(&spec, NULL, NULL);
  unsigned exceeded = 0;
  struct quasaur_record record = next_record();
  for (; record.kind != QUASAUR_RETURNED; record = next_record()) {
    if (record.kind == QUASAUR_EXCEEDED) exceeded++;
  }
  CHECK(exceeded == 1 && record.value == 2000);
  quasaur_guest_release(guest);
}

static void an_account_agrees_with_a_page_by_page_count(void) {
  enum { PAGES = 600, ROUNDS = 20000 };
  static struct memory_account account;
  static uint8_t taken[PAGES];
  memset(&account, 0, sizeof account);
  srand(1);
  bool exact = true;
  for (int round = 0; round < ROUNDS; round++) {
    const uintptr_t start = (uintptr_t)(rand() % PAGES);
    const uintptr_t end = start + (uintptr_t)(rand() % 6);
    const uintptr_t stop = end < PAGES ? end : PAGES;
    /* For half of the time more is given back than taken, so that the table is never full. */
    const bool take = rand() % 10 < (round < ROUNDS / 2 ? 3 : 7);
    if (take) {
      quasaur_memory_take(&account, start * 4096, stop * 4096);
    } else {
      quasaur_memory_give(&account, start * 4096, stop * 4096);
    }
    for (uintptr_t page = start; page < stop; page++) taken[page] = take;
    uint64_t bytes = 0;
    for (size_t page = 0; page < PAGES; page++) bytes += taken[page] * UINT64_C(4096);
    exact = exact && account.untracked_bytes == 0;
    CHECK(account.count <= RANGES_MAX);
    CHECK(exact ? quasaur_memory_bytes(&account) == bytes
                : quasaur_memory_bytes(&account) >= bytes);
  }
  CHECK(exact);
}

static void a_full_account_counts_too_much_never_too_little(void) {
  static struct memory_account account;
  memset(&account, 0, sizeof account);
  for (uintptr_t i = 0; i < 2 * RANGES_MAX; i++) {
    quasaur_memory_take(&account, i * 8192, i * 8192 + 4096);
  }
  CHECK(account.count == RANGES_MAX);
  CHECK(quasaur_memory_bytes(&account) == 2 * RANGES_MAX * UINT64_C(4096));
  for (uintptr_t i = 0; i < 2 * RANGES_MAX; i++) {
    quasaur_memory_give(&account, i * 8192, i * 8192 + 4096);
  }
  CHECK(account.count == 0);
  CHECK(quasaur_memory_bytes(&account) == RANGES_MAX * UINT64_C(4096));
  /* A hole where there is no room for two ranges. */
  memset(&account, 0, sizeof account);
  for (uintptr_t i = 0; i < RANGES_MAX; i++) {
    quasaur_memory_take(&account, i * 65536, i * 65536 + 12288);
  }
  quasaur_memory_give(&account, 4096, 8192);
  CHECK(account.count == RANGES_MAX);
  CHECK(quasaur_memory_bytes(&account) == RANGES_MAX * UINT64_C(12288) - 4096);
}

const struct test supervisor_tests[] = {
    {"bounds the descriptors of a guest", bounds_the_descriptors_of_a_guest},
    {"a descriptor of another guest makes no room", a_descriptor_of_another_guest_makes_no_room},
    {"counts the memory of a guest", counts_the_memory_of_a_guest},
    {"waits at the bound until it is asked to end", waits_at_the_bound_until_it_is_asked_to_end},
    {"waits at the bound for a while only", waits_at_the_bound_for_a_while_only},
    {"an account agrees with a page by page count", an_account_agrees_with_a_page_by_page_count},
    {"a full account counts too much, never too little",
     a_full_account_counts_too_much_never_too_little},
    {NULL, NULL},
};
