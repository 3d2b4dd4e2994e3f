/* Says hello: the smallest guest that shows that anything works. */
#include <stdio.h>

int main(void) {
  puts("hello from wasm");
  return 0;
}
