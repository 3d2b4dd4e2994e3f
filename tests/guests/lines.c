/* Writes ID and the line's number on many lines: every one to stdout, every tenth to stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const char *id = getenv("ID");
  int count = argc > 1 ? atoi(argv[1]) : 1000;
  char line[128];
  for (int i = 0; i < count; i++) {
    int length = snprintf(line, sizeof line, "%s out %d xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", id, i);
    if (write(1, line, (size_t)length) != length) return 1;
    if (i % 10 != 0) continue;
    length = snprintf(line, sizeof line, "%s err %d\n", id, i);
    if (write(2, line, (size_t)length) != length) return 1;
  }
  return 0;
}
