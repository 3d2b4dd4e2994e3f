/* Prints its working directory, PWD, and what a file by relative and by absolute path holds. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void show(const char *path) {
  char bytes[100] = {0};
  int fd = open(path, O_RDONLY);
  if (fd < 0) {
    printf("%s: %s\n", path, strerror(errno));
    return;
  }
  (void)read(fd, bytes, sizeof bytes - 1);
  printf("%s: %s\n", path, bytes);
  close(fd);
}

int main(int argc, char **argv) {
  char cwd[200] = "?";
  (void)getcwd(cwd, sizeof cwd);
  printf("cwd %s\nPWD %s\n", cwd, getenv("PWD"));
  for (int i = 1; i < argc; i++) show(argv[i]);
  return 0;
}
