/* Writes so many MiB of lines to stdout, 64 bytes each. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  static char bytes[65536];
  long blocks = (argc > 1 ? atol(argv[1]) : 1) * 16;
  memset(bytes, '.', sizeof bytes);
  for (size_t at = 63; at < sizeof bytes; at += 64) bytes[at] = '\n';
  while (blocks-- > 0) {
    for (size_t done = 0; done < sizeof bytes;) {
      ssize_t put = write(1, bytes + done, sizeof bytes - done);
      if (put < 0) return 1;
      done += (size_t)put;
    }
  }
  return 0;
}
