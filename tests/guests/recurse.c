/*
 * Recurses in C, where frames are in linear memory too: `deep`, `mutual`, or `wide` with frames of
 * 24 KB. Ends in a trap when its stack is used up.
 */
#include <string.h>
#include <unistd.h>

static volatile int none = 0;

__attribute__((noinline)) static int odd(int depth);

__attribute__((noinline)) static int even(int depth) {
  if (none) return 0;
  volatile char frame[64];
  frame[depth & 63] = (char)depth;
  return odd(depth + 1) + frame[none];
}

__attribute__((noinline)) static int odd(int depth) {
  if (none) return 0;
  volatile char frame[64];
  frame[depth & 63] = (char)depth;
  return even(depth + 1) + frame[none];
}

__attribute__((noinline)) static int deep(int depth) {
  if (none) return 0;
  volatile char frame[64];
  frame[depth & 63] = (char)depth;
  return deep(depth + 1) + frame[none];
}

__attribute__((noinline)) static int wide(int depth) {
  if (none) return 0;
  volatile char frame[24576];
  frame[depth % 24576] = (char)depth;
  return wide(depth + 1) + frame[none];
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "deep";
  write(1, "recursing\n", 10);
  if (strcmp(kind, "mutual") == 0) return even(0);
  if (strcmp(kind, "wide") == 0) return wide(0);
  return deep(0);
}
