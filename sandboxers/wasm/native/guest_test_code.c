/*
 * Stands for compiled code of a guest in faults_test.c: a shared object of its own, which calls its
 * engine through a table as WasmEdge's does. Built without sanitizers: no compiled guest has any.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t engine_function(uint64_t);

/* Set by the engine when it loads the object. */
EXPORT engine_function *const *intrinsics;

EXPORT uint64_t compute_for_ever(void) {
  volatile uint64_t count = 0;
  for (;;) count++;
}

/* For so many rounds; its result says that it came to the end. */
EXPORT uint64_t compute_for_a_while(uint64_t rounds) {
  volatile uint64_t count = 0;
  while (count < rounds) count++;
  return count;
}

EXPORT uint64_t read_from(uint64_t address) { return *(volatile uint64_t *)(uintptr_t)address; }

/* A depth that no stack has. */
static volatile uint64_t depth_max = UINT64_MAX;

EXPORT uint64_t recurse_for_ever(uint64_t depth) {
  volatile uint64_t frame[32];
  frame[depth % 32] = depth;
  if (depth == depth_max) return 0;
  return recurse_for_ever(depth + 1) + frame[depth % 32];
}

/* Calls the engine at each depth. */
EXPORT uint64_t recurse_with_calls(uint64_t depth) {
  volatile uint64_t frame[8];
  frame[depth % 8] = intrinsics[1](depth);
  if (depth == depth_max) return 0;
  return recurse_with_calls(depth + 1) + frame[depth % 8];
}

EXPORT uint64_t call_for_ever(void) {
  for (;;) (void)intrinsics[0](1);
}

EXPORT uint64_t call_once(uint64_t argument) { return intrinsics[2](argument); }

/* Takes three descriptors and so many bytes, and waits until it is interrupted. */
static uint64_t hold_and_wait(uint64_t bytes) {
  int held[3];
  for (int i = 0; i < 3; i++) held[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
  void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  (void)poll(NULL, 0, -1);
  if (map != MAP_FAILED) munmap(map, bytes);
  for (int i = 0; i < 3; i++) close(held[i]);
  return 0;
}

/* For hosts that cannot ask for the address of a function: 0 is hold_and_wait. */
EXPORT uint64_t function_address(uint32_t index) {
  return index == 0 ? (uint64_t)(uintptr_t)hold_and_wait : 0;
}
