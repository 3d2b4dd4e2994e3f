/*
 * Works on files as its arguments say, one result a line:
 *   r:PATH read   w:PATH write   l:PATH list   m:PATH make directory   u:PATH unlink
 *   n:FROM:TO rename   s:TARGET:PATH symbolic link   p: list the directories it was given
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

static const char *outcome(int failed) { return failed ? strerror(errno) : "ok"; }

static void read_file(const char *path) {
  char bytes[200];
  int fd = open(path, O_RDONLY);
  if (fd < 0) {
    printf("read %s: %s\n", path, strerror(errno));
    return;
  }
  ssize_t got = read(fd, bytes, sizeof bytes - 1);
  bytes[got > 0 ? got : 0] = '\0';
  printf("read %s: %s\n", path, got < 0 ? strerror(errno) : bytes);
  close(fd);
}

static void write_file(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  printf("write %s: %s\n", path, outcome(fd < 0 || write(fd, "written", 7) != 7));
  if (fd >= 0) close(fd);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path) {
  char *names[100];
  int count = 0;
  DIR *directory = opendir(path);
  if (directory == NULL) {
    printf("list %s: %s\n", path, strerror(errno));
    return;
  }
  for (struct dirent *entry; count < 100 && (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      names[count++] = strdup(entry->d_name);
  }
  closedir(directory);
  qsort(names, (size_t)count, sizeof names[0], by_name);
  printf("list %s:", path);
  for (int i = 0; i < count; i++) printf(" %s", names[i]);
  printf("\n");
}

static void preopens(void) {
  for (__wasi_fd_t fd = 3; fd < 100; fd++) {
    __wasi_prestat_t stat;
    if (__wasi_fd_prestat_get(fd, &stat) != 0) return;
    char name[200] = {0};
    if (stat.u.dir.pr_name_len >= sizeof name) continue;
    (void)__wasi_fd_prestat_dir_name(fd, (uint8_t *)name, stat.u.dir.pr_name_len);
    printf("preopen %s\n", name);
  }
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    char *path = argv[i] + 2;
    char *second = strchr(path, ':');
    if (second != NULL) *second++ = '\0';
    switch (argv[i][0]) {
      case 'r': read_file(path); break;
      case 'w': write_file(path); break;
      case 'l': list(path); break;
      case 'm': printf("mkdir %s: %s\n", path, outcome(mkdir(path, 0755))); break;
      case 'u': printf("unlink %s: %s\n", path, outcome(unlink(path))); break;
      case 'n': printf("rename %s: %s\n", path, outcome(rename(path, second))); break;
      case 's': printf("symlink %s: %s\n", second, outcome(symlink(path, second))); break;
      case 'p': preopens(); break;
    }
  }
  return 0;
}
