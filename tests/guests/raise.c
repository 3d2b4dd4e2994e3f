/* Raises the WASI signal of its first argument and prints what came of it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int32_t proc_raise_(int32_t number)
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_raise")));

int main(int argc, char **argv) {
  int number = argc > 1 ? atoi(argv[1]) : 9;
  printf("proc_raise %d: error %d\n", number, proc_raise_(number));
  return 0;
}
