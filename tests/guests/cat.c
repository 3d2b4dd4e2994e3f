/* Copies stdin to stdout until its end. */
#include <unistd.h>

int main(void) {
  char bytes[4096];
  for (;;) {
    ssize_t got = read(0, bytes, sizeof bytes);
    if (got < 0) return 1;
    if (got == 0) return 0;
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(1, bytes + done, (size_t)(got - done));
      if (put < 0) return 2;
      done += put;
    }
  }
}
