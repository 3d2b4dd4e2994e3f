/* Says that it runs, then sleeps for the given number of seconds (3600 without one). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 3600;
  puts("sleeping");
  fflush(stdout);
  sleep(seconds);
  puts("awake");
  return 0;
}
