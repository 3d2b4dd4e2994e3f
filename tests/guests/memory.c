/* Takes memory, 1 MiB at a time, until it gets none or has as many as its first argument says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the compiler cannot see that nobody reads it. */
static char *volatile last;

int main(int argc, char **argv) {
  int wanted = argc > 1 ? atoi(argv[1]) : 4096, taken = 0;
  while (taken < wanted) {
    char *block = malloc(1 << 20);
    if (block == NULL) break;
    memset(block, 1, 1 << 20);
    last = block;
    taken++;
  }
  printf("took %d MiB\n", taken);
  fflush(stdout);
  if (argc > 2) sleep((unsigned)atoi(argv[2]));
  return 0;
}
