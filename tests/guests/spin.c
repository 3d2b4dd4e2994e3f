/* Says that it runs, then computes for ever. */
#include <unistd.h>

int main(void) {
  volatile unsigned counter = 0;
  write(1, "spinning\n", 9);
  for (;;) counter++;
}
