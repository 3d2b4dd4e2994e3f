/*
 * Tries every WASI function that takes a path with the paths of its arguments, relative to every
 * directory that it was given, and prints what each came to: `F DIRECTORY PATH: ERROR`, with what
 * was read, if anything. It uses the functions themselves: the C library would resolve the paths.
 */
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

static const char *inside = "escape-inside";

static void tell(const char *what, int directory, const char *path, int error) {
  printf("%s %d %s: %d\n", what, directory, path, error);
}

static void try_open(int directory, const char *path, int follow, __wasi_oflags_t flags) {
  __wasi_fd_t fd;
  char text[64] = {0};
  __wasi_rights_t rights = __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_SEEK;
  if (flags & __WASI_OFLAGS_CREAT) rights |= __WASI_RIGHTS_FD_WRITE;
  if (flags & __WASI_OFLAGS_DIRECTORY) rights |= __WASI_RIGHTS_FD_READDIR;
  int error = __wasi_path_open(directory, follow ? __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW : 0, path, flags,
                               rights, rights, 0, &fd);
  tell(flags ? (flags & __WASI_OFLAGS_CREAT ? "create" : "opendir") : "open", directory, path,
       error);
  if (error != 0) return;
  if (flags & __WASI_OFLAGS_CREAT) {
    __wasi_ciovec_t out = {(const uint8_t *)"TAKEN", 5};
    __wasi_size_t put;
    tell("write", directory, path, __wasi_fd_write(fd, &out, 1, &put));
  } else {
    __wasi_iovec_t in = {(uint8_t *)text, sizeof text - 1};
    __wasi_size_t got;
    if (__wasi_fd_read(fd, &in, 1, &got) == 0) printf("content %d %s: %s\n", directory, path, text);
  }
  (void)__wasi_fd_close(fd);
}

/* What only looks. */
static void look(int directory, const char *path) {
  __wasi_filestat_t status;
  char text[256] = {0};
  __wasi_size_t length;
  for (int follow = 0; follow < 2; follow++) {
    try_open(directory, path, follow, 0);
    try_open(directory, path, follow, __WASI_OFLAGS_DIRECTORY);
    tell(follow ? "stat" : "lstat", directory, path,
         __wasi_path_filestat_get(directory, follow ? __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW : 0, path,
                                  &status));
  }
  tell("readlink", directory, path,
       __wasi_path_readlink(directory, path, (uint8_t *)text, sizeof text - 1, &length));
}

/* What would change something. */
static void change(int directory, const char *path) {
  __wasi_lookupflags_t follow = __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW;
  try_open(directory, path, 1, __WASI_OFLAGS_CREAT);
  try_open(directory, path, 0, __WASI_OFLAGS_CREAT | __WASI_OFLAGS_TRUNC);
  tell("utimes", directory, path,
       __wasi_path_filestat_set_times(directory, follow, path, 1, 1,
                                      __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
  tell("link-from", directory, path, __wasi_path_link(directory, follow, path, directory, inside));
  tell("link-to", directory, path,
       __wasi_path_link(directory, 0, "escape.wasm", directory, path));
  tell("symlink", directory, path, __wasi_path_symlink("escape.wasm", directory, path));
  tell("rename-from", directory, path, __wasi_path_rename(directory, path, directory, inside));
  tell("rename-to", directory, path, __wasi_path_rename(directory, "victim", directory, path));
  tell("mkdir", directory, path, __wasi_path_create_directory(directory, path));
  tell("rmdir", directory, path, __wasi_path_remove_directory(directory, path));
  tell("unlink", directory, path, __wasi_path_unlink_file(directory, path));
}

/* A link that the guest itself makes. */
static void link_and_look(int directory, const char *target) {
  const char *name = "escape-link";
  if (__wasi_path_symlink(target, directory, name) != 0) return;
  try_open(directory, name, 1, 0);
  try_open(directory, name, 1, __WASI_OFLAGS_DIRECTORY);
  try_open(directory, "escape-link/secret", 1, 0);
  try_open(directory, "escape-link/taken", 1, __WASI_OFLAGS_CREAT);
  (void)__wasi_path_unlink_file(directory, name);
}

int main(int argc, char **argv) {
  int changes = argc > 1 && strcmp(argv[1], "change") == 0;
  for (int directory = 3;; directory++) {
    __wasi_prestat_t status;
    if (__wasi_fd_prestat_get(directory, &status) != 0) break;
    for (int i = 2; i < argc; i++) {
      look(directory, argv[i]);
      link_and_look(directory, argv[i]);
      if (changes) change(directory, argv[i]);
    }
  }
  puts("tried everything");
  return 0;
}
