/* The verb that measures the frequency of the processor's time stamp counter. */
#define _GNU_SOURCE
#include "launcher.h"

#include <stdio.h>
#include <time.h>

/* How long to measure; a pair that is read within a microsecond makes that exact to 20 in a million. */
#define MEASURE_NS 60000000LL
/* How often to read a pair, to have one during which nothing else ran. */
#define TRIES 64

#if defined(__x86_64__)

#include <x86intrin.h>

static int64_t now_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Reads counter and clock at as good as the same time. */
static void read_pair(uint64_t *count, int64_t *time_ns) {
  int64_t shortest = INT64_MAX;
  for (int i = 0; i < TRIES; i++) {
    unsigned int processor;
    const int64_t before = now_ns();
    const uint64_t read = __rdtscp(&processor);
    const int64_t after = now_ns();
    if (after - before >= shortest) continue;
    shortest = after - before;
    *count = read;
    *time_ns = before + (after - before) / 2;
  }
}

int host_tsc(int argc, char **argv) {
  (void)argv;
  if (argc != 1) return host_fail(CODE_INVALID_ARGUMENT, "expected no arguments");
  uint64_t first_count = 0, last_count = 0;
  int64_t first_ns = 0, last_ns = 0;
  read_pair(&first_count, &first_ns);
  const struct timespec pause = {0, MEASURE_NS};
  (void)nanosleep(&pause, NULL); /* cut short is still long enough to tell, or refused below */
  read_pair(&last_count, &last_ns);
  if (last_ns - first_ns < MEASURE_NS / 2 || last_count <= first_count) {
    return host_fail(CODE_INTERNAL, "cannot measure the time stamp counter: it stands still");
  }
  const double khz = (double)(last_count - first_count) * 1e6 / (double)(last_ns - first_ns);
  (void)printf("khz %.0f\n", khz);
  return 0;
}

#else

int host_tsc(int argc, char **argv) {
  (void)argc;
  (void)argv;
  (void)printf("khz 0\n"); /* there is none, and nothing that asks for it */
  return 0;
}

#endif
