/*
 * The account of the memory that a guest's thread has made writable and not given back: a table of
 * ranges that do not touch each other. It is exact while the table has room. Once it is full,
 * what is taken is still counted, but not known any more when it is given back: the count is then
 * too high, never too low.
 */
#include "internal.h"

#include <string.h>

/* The first range that ends at or behind an address. */
static uint32_t find_range(const struct memory_account *account, uintptr_t address) {
  uint32_t low = 0, high = account->count;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (account->ranges[middle].end < address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Puts `added` (0 to 2) ranges in the place of `removed` ones from `at` on. */
static bool replace_ranges(struct memory_account *account, uint32_t at, uint32_t removed,
                           const struct memory_range *ranges, uint32_t added) {
  const uint32_t count = account->count - removed + added;
  if (count > RANGES_MAX) return false;
  memmove(&account->ranges[at + added], &account->ranges[at + removed],
          sizeof account->ranges[0] * (account->count - at - removed));
  if (added > 0) memcpy(&account->ranges[at], ranges, sizeof ranges[0] * added);
  account->count = count;
  return true;
}

/* Counts a range; parts that are counted already are not counted twice. */
void quasaur_memory_take(struct memory_account *account, uintptr_t start, uintptr_t end) {
  if (start >= end) return;
  const uint32_t at = find_range(account, start);
  struct memory_range whole = {.start = start, .end = end};
  uint32_t joined = 0;
  for (; at + joined < account->count && account->ranges[at + joined].start <= end; joined++) {
    const struct memory_range *other = &account->ranges[at + joined];
    if (other->start < whole.start) whole.start = other->start;
    if (other->end > whole.end) whole.end = other->end;
  }
  if (!replace_ranges(account, at, joined, &whole, 1)) account->untracked_bytes += end - start;
}

/* Stops to count a range, as far as it was counted. */
void quasaur_memory_give(struct memory_account *account, uintptr_t start, uintptr_t end) {
  if (start >= end) return;
  const uint32_t at = find_range(account, start);
  struct memory_range rest[2];
  uint32_t touched = 0, left = 0;
  for (; at + touched < account->count && account->ranges[at + touched].start < end; touched++) {
    const struct memory_range *range = &account->ranges[at + touched];
    if (range->start < start) {
      rest[left++] = (struct memory_range){.start = range->start, .end = start};
    }
    if (range->end > end) rest[left++] = (struct memory_range){.start = end, .end = range->end};
    if (left == 2) {
      touched++;
      break;
    }
  }
  if (replace_ranges(account, at, touched, rest, left)) return;
  /* A hole in the middle of a range and no room for two: the upper part is counted untracked. */
  account->untracked_bytes += rest[1].end - rest[1].start;
  (void)replace_ranges(account, at, touched, rest, 1);
}

/* What is counted, in bytes. */
uint64_t quasaur_memory_bytes(const struct memory_account *account) {
  uint64_t bytes = account->untracked_bytes;
  for (uint32_t i = 0; i < account->count; i++) {
    bytes += account->ranges[i].end - account->ranges[i].start;
  }
  return bytes;
}
