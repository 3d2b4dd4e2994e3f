/* Times what a program computes, without what it takes to start it. */
#ifndef ELAPSED_H
#define ELAPSED_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* One line: what came out, so that nothing can be left out, and how long it took. */
static int tell(const char *result, uint64_t begin_ns) {
  uint64_t end_ns = now_ns();
  printf("result %s elapsed %llu ns\n", result, (unsigned long long)(end_ns - begin_ns));
  return 0;
}

#endif
