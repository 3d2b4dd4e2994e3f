/*
 * Which programs are run with rights of ours: those that the system's administrator put where they
 * are. Whoever can only make this launcher run gets no code of their own to run by that.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * A file or directory that nobody but root can change. In a directory with the sticky bit, such as
 * /tmp, others can make files, but not move or remove one of root's.
 */
static bool is_safe(const char *path, bool is_last, bool allows_sticky) {
  struct stat status;
  if (lstat(path, &status) != 0 || status.st_uid != 0) return false;
  if (is_last != S_ISREG(status.st_mode) || is_last == S_ISDIR(status.st_mode)) return false;
  if (allows_sticky && !is_last && (status.st_mode & S_ISVTX) != 0) return true;
  return (status.st_mode & S_IWOTH) == 0 && ((status.st_mode & S_IWGRP) == 0 || status.st_gid == 0);
}

static bool is_launcher(const char *path) {
  struct stat own;
  struct stat other;
  return stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

static int check(const char *program, bool allows_sticky) {
  if (program[0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "cannot run \"%.500s\": expected an absolute path",
                     program);
  }
  char path[PATH_MAX];
  if (realpath(program, path) == NULL) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return host_fail(CODE_FAILED_PRECONDITION,
                       "cannot run \"%.500s\": no such program: install it, or say where it is",
                       program);
    }
    return host_fail_errno("cannot run \"%.500s\"", program);
  }
  for (char *at = path; at != NULL; at = strchr(at + 1, '/')) {
    char *end = strchr(at + 1, '/');
    if (end != NULL) *end = '\0';
    const bool safe = is_safe(path, end == NULL, allows_sticky) &&
                      (at != path || is_safe("/", false, allows_sticky));
    if (!safe) {
      return host_fail(CODE_FAILED_PRECONDITION,
                       "cannot run \"%.500s\": \"%.500s\" is not root's alone: expected that root "
                       "owns it and nobody else can write to it",
                       program, path);
    }
    if (end != NULL) *end = '/';
  }
  return 0;
}

int host_check_program(const char *program) {
  return check(program, false);
}

int host_check_own_program(const char *program) {
  return is_launcher(program) ? 0 : check(program, true);
}
