/* Breaks a rule of its machine, the one its first argument names. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile int zero = 0;

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "unreachable";
  write(1, "before\n", 7);
  if (strcmp(kind, "divide") == 0) return 7 / zero;
  if (strcmp(kind, "memory") == 0) return *(volatile int *)0xfffffff0u;
  if (strcmp(kind, "call") == 0) return ((int (*)(void))0x7fffffff)();
  __builtin_trap();
}
