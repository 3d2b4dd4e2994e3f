/*
 * Flips pancakes: takes permutations of N numbers in a fixed order, and counts for each how often
 * its first part has to be turned over until it begins with the first number. Prints the largest
 * count and a checksum. Arguments: N, and how many permutations at most (default all).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "elapsed.h"

enum { LENGTH_MAX = 12 };

static int flips(const int *permutation, int n) {
  int work[LENGTH_MAX], count = 0;
  for (int i = 0; i < n; i++) work[i] = permutation[i];
  for (int first; (first = work[0]) != 0; count++)
    for (int low = 0, high = first; low < high; low++, high--) {
      int kept = work[low];
      work[low] = work[high];
      work[high] = kept;
    }
  return count;
}

/* The next permutation, by turning longer and longer heads round; 0 after the last. */
static int next(int *permutation, int *turns, int n) {
  for (int length = 1; length < n; length++) {
    int first = permutation[0];
    for (int i = 0; i < length; i++) permutation[i] = permutation[i + 1];
    permutation[length] = first;
    if (++turns[length] <= length) return 1;
    turns[length] = 0;
  }
  return 0;
}

int main(int argc, char **argv) {
  int permutation[LENGTH_MAX], turns[LENGTH_MAX] = {0}, most = 0;
  int n = argc > 1 ? atoi(argv[1]) : 10;
  long left = argc > 2 ? atol(argv[2]) : -1, sum = 0;
  char result[64];
  if (n < 1 || n > LENGTH_MAX) return 64;
  for (int i = 0; i < n; i++) permutation[i] = i;
  uint64_t begin = now_ns();
  for (long index = 0; left < 0 || index < left; index++) {
    int count = flips(permutation, n);
    if (count > most) most = count;
    sum += index % 2 == 0 ? count : -count;
    if (!next(permutation, turns, n)) break;
  }
  snprintf(result, sizeof result, "%d/%ld", most, sum);
  return tell(result, begin);
}
