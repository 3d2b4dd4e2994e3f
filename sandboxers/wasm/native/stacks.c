/*
 * The stacks of guests. Each guest has one mapping, lowest address first:
 *     guard | stack | page | signal stack
 * where guard and page are PROT_NONE: neither stack can run into the other or out of the mapping.
 * That is four kernel mappings per guest; with the engine's two per linear memory 8,000 guests need
 * 48,000 of the 65,530 that vm.max_map_count allows by default.
 *
 * To map and unmap them takes longer than to start the thread, and stops the other threads for a
 * moment, so some are kept for the next guest. Nothing of a guest is in them then: what lies
 * deep in a stack has gone back to the system, and the rest is overwritten with zeros.
 *
 * Only the host's thread calls this.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Unused stacks that are kept, of all sizes together. */
#define KEPT_MAX 64u
/* What is kept of a stack's memory: what ordinary guests use. 64 of them hold 2.5 MiB. */
#define KEPT_STACK_BYTES 32768u
#define KEPT_SIGNAL_STACK_BYTES 8192u

static struct guest_stacks kept[KEPT_MAX];
static uint32_t kept_count;

static size_t page_bytes(void) {
  static size_t bytes;
  if (bytes == 0) bytes = (size_t)sysconf(_SC_PAGESIZE);
  return bytes;
}

static size_t round_to_pages(uint64_t bytes) {
  return (bytes + page_bytes() - 1) / page_bytes() * page_bytes();
}

/* The last one that was given back is the one that is still in the caches. */
static bool take_kept(struct guest_stacks *stacks, size_t stack_bytes, size_t guard_bytes) {
  for (uint32_t i = kept_count; i-- > 0;) {
    if (kept[i].stack_bytes != stack_bytes) continue;
    if ((size_t)(kept[i].stack - kept[i].mapping) != guard_bytes) continue;
    *stacks = kept[i];
    memmove(&kept[i], &kept[i + 1], sizeof kept[0] * (kept_count - i - 1));
    kept_count--;
    return true;
  }
  return false;
}

static void unmap(const struct guest_stacks *stacks) {
  (void)munmap(stacks->mapping, stacks->mapping_bytes);
}

/* Takes or maps the stacks of a guest. Returns 0, or an errno with nothing left behind. */
int quasaur_stacks_take(struct guest_stacks *stacks, uint64_t stack_bytes, uint64_t guard_bytes) {
  const size_t guard = round_to_pages(guard_bytes);
  const size_t bytes = round_to_pages(stack_bytes);
  if (take_kept(stacks, bytes, guard)) return 0;
  const size_t total = guard + bytes + page_bytes() + SIGNAL_STACK_BYTES;
  void *mapping =
      mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapping == MAP_FAILED) return errno;
  stacks->mapping = mapping;
  stacks->mapping_bytes = total;
  stacks->stack = stacks->mapping + guard;
  stacks->stack_bytes = bytes;
  stacks->signal_stack = stacks->stack + bytes + page_bytes();
  const int protection = PROT_READ | PROT_WRITE;
  if (mprotect(stacks->stack, bytes, protection) == 0 &&
      mprotect(stacks->signal_stack, SIGNAL_STACK_BYTES, protection) == 0) {
    return 0;
  }
  const int error = errno;
  unmap(stacks);
  stacks->mapping = NULL;
  return error;
}

/* Clears a stack: the upper end, where it begins, by hand, and the rest by giving it back. */
static bool clear(uint8_t *stack, size_t bytes, size_t kept_bytes) {
  if (kept_bytes > bytes) kept_bytes = bytes;
  if (madvise(stack, bytes - kept_bytes, MADV_DONTNEED) != 0) return false;
  memset(stack + bytes - kept_bytes, 0, kept_bytes);
  return true;
}

/* Keeps or unmaps them. The thread must be gone. */
void quasaur_stacks_give(struct guest_stacks *stacks) {
  if (stacks->mapping == NULL) return;
  if (kept_count < KEPT_MAX && clear(stacks->stack, stacks->stack_bytes, KEPT_STACK_BYTES) &&
      clear(stacks->signal_stack, SIGNAL_STACK_BYTES, KEPT_SIGNAL_STACK_BYTES)) {
    kept[kept_count++] = *stacks;
  } else {
    unmap(stacks);
  }
  stacks->mapping = NULL;
}
