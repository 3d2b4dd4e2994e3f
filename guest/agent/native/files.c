// Files and directories.
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static SYS_FUNCTION(sys_open) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int flags = args_int(&a), mode = args_int_or(&a, 0644);
  return args_answer(&a, a.failed ? -1 : open(path, flags | O_CLOEXEC, mode));
}

static SYS_FUNCTION(sys_openat) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int directory = args_int(&a);
  const char *path = args_text(&a);
  int flags = args_int(&a), mode = args_int_or(&a, 0644);
  return args_answer(&a, a.failed ? -1 : openat(directory, path, flags | O_CLOEXEC, mode));
}

static SYS_FUNCTION(sys_close) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : close(fd));
}

// read, write, pread and pwrite: the magic number says which.
enum { READ, WRITE, PREAD, PWRITE };

static JSValue sys_transfer(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                            int magic) {
  struct args a;
  size_t length;
  ssize_t result = -1;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  uint8_t *bytes = args_bytes(&a, &length);
  int64_t position = magic >= PREAD ? args_int64(&a) : 0;
  if (a.failed) return args_answer(&a, -1);
  do {
    switch (magic) {
    case READ: result = read(fd, bytes, length); break;
    case WRITE: result = write(fd, bytes, length); break;
    case PREAD: result = pread(fd, bytes, length, position); break;
    default: result = pwrite(fd, bytes, length, position); break;
    }
  } while (result < 0 && errno == EINTR);
  return args_answer(&a, result);
}

// The bytes of a Uint8Array; NULL with an exception where the argument is none. They stay as long as
// the argument does.
static uint8_t *view_bytes(JSContext *ctx, JSValueConst view, size_t *length) {
  size_t offset, element_bytes, size;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, view, &offset, length, &element_bytes);
  if (JS_IsException(buffer)) return NULL;
  uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, buffer);
  JS_FreeValue(ctx, buffer);
  return bytes ? bytes + offset : NULL;
}

// The ways of bulk data: without the three getters that an array's place would cost each time.
static SYS_FUNCTION(sys_read_into) {
  struct args a;
  size_t length;
  ssize_t result;
  SYS_UNUSED;
  if (argc < 2) return JS_ThrowTypeError(ctx, "too few arguments");
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  uint8_t *bytes = a.failed ? NULL : view_bytes(ctx, argv[1], &length);
  if (!bytes) return JS_EXCEPTION;
  do result = read(fd, bytes, length);
  while (result < 0 && errno == EINTR);
  return answer(ctx, result);
}

static SYS_FUNCTION(sys_write_from) {
  struct args a;
  size_t length;
  ssize_t result;
  SYS_UNUSED;
  if (argc < 4) return JS_ThrowTypeError(ctx, "too few arguments");
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  a.next = 2;
  int64_t start = args_int64(&a), length_max = args_int64(&a);
  uint8_t *bytes = a.failed ? NULL : view_bytes(ctx, argv[1], &length);
  if (!bytes) return JS_EXCEPTION;
  if (start < 0 || length_max < 0 || (uint64_t)start > length) {
    return JS_ThrowRangeError(ctx, "start or length outside of the array");
  }
  size_t count = length - (size_t)start;
  if (count > (uint64_t)length_max) count = (size_t)length_max;
  do result = write(fd, bytes + start, count);
  while (result < 0 && errno == EINTR);
  return answer(ctx, result);
}

// Grows while it reads: files of /proc say that they are empty.
static SYS_FUNCTION(sys_read_file) {
  struct args a;
  char *text = NULL;
  size_t used = 0, size = 0;
  int error = 0;
  JSValue result;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int max = args_int_or(&a, 1 << 20);
  if (a.failed) return args_answer(&a, -1);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return args_answer(&a, -1);
  for (;;) {
    if (used == size) {
      size_t larger = size ? size * 2 : 4096;
      char *grown = realloc(text, larger);
      if (!grown) {
        error = ENOMEM;
        break;
      }
      text = grown;
      size = larger;
    }
    ssize_t count = read(fd, text + used, size - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) error = errno;
    if (count <= 0) break;
    used += (size_t)count;
    if (max < 0 || used > (size_t)max) {
      error = EFBIG;
      break;
    }
  }
  close(fd);
  args_free(&a);
  result = error ? JS_NewInt32(ctx, -error) : JS_NewStringLen(ctx, used ? text : "", used);
  free(text);
  return result;
}

static SYS_FUNCTION(sys_write_file) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a), *text = args_text(&a);
  int flags = args_int_or(&a, O_WRONLY | O_CREAT | O_TRUNC), mode = args_int_or(&a, 0644);
  if (a.failed) return args_answer(&a, -1);
  int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
  if (fd < 0) return args_answer(&a, -1);
  size_t length = strlen(text);
  ssize_t count = write(fd, text, length);
  int error = count < 0 ? errno : (size_t)count < length ? EIO : 0;
  // Some file systems tell of a failed write only here.
  if (close(fd) < 0 && !error) error = errno;
  errno = error;
  return args_answer(&a, error ? -1 : 0);
}

static SYS_FUNCTION(sys_ftruncate) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  int64_t length = args_int64(&a);
  return args_answer(&a, a.failed ? -1 : ftruncate(fd, length));
}

static SYS_FUNCTION(sys_fsync) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : fsync(fd));
}

static SYS_FUNCTION(sys_sync) {
  SYS_UNUSED;
  sync();
  return JS_NewInt32(ctx, 0);
}

// Calls with a path and a mode.
enum { MKDIR, CHMOD, ACCESS };

static JSValue sys_path_mode(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                             int magic) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int mode = args_int(&a), result = -1;
  if (a.failed) return args_answer(&a, -1);
  if (magic == MKDIR) result = mkdir(path, (mode_t)mode);
  else if (magic == CHMOD) result = chmod(path, (mode_t)mode);
  else result = access(path, mode);
  return args_answer(&a, result);
}

static SYS_FUNCTION(sys_mkdir_all) {
  struct args a;
  char copy[PATH_MAX];
  struct stat found;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int mode = args_int(&a);
  if (a.failed) return args_answer(&a, -1);
  size_t length = strlen(path);
  if (length >= sizeof copy) {
    errno = ENAMETOOLONG;
    return args_answer(&a, -1);
  }
  memcpy(copy, path, length + 1);
  while (length > 1 && copy[length - 1] == '/') copy[--length] = 0;
  for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(copy, 0755) && errno != EEXIST) return args_answer(&a, -1);
    *slash = '/';
  }
  if (mkdir(copy, (mode_t)mode) == 0) return args_answer(&a, 0);
  if (errno == EEXIST) {
    if (stat(copy, &found) == 0 && S_ISDIR(found.st_mode)) return args_answer(&a, 0);
    errno = EEXIST;
  }
  return args_answer(&a, -1);
}

// Calls with nothing but a path.
enum { RMDIR, UNLINK };

static JSValue sys_path_only(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                             int magic) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  if (a.failed) return args_answer(&a, -1);
  return args_answer(&a, magic == RMDIR ? rmdir(path) : unlink(path));
}

// Calls with two paths.
enum { RENAME, LINK, SYMLINK };

static JSValue sys_two_paths(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                             int magic) {
  struct args a;
  int result = -1;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *first = args_text(&a), *second = args_text(&a);
  if (a.failed) return args_answer(&a, -1);
  if (magic == RENAME) result = rename(first, second);
  else if (magic == LINK) result = link(first, second);
  else result = symlink(first, second);
  return args_answer(&a, result);
}

// Removes what a directory holds. The depth is bounded by descriptors and by this number, for a
// container may have left a tree of any depth behind.
#define REMOVE_DEPTH_MAX 512

static int remove_below(int directory, dev_t device, int depth) {
  int result = 0;
  if (depth > REMOVE_DEPTH_MAX) {
    close(directory);
    errno = ELOOP;
    return -1;
  }
  DIR *stream = fdopendir(directory);
  if (!stream) {
    close(directory);
    return -1;
  }
  for (;;) {
    struct stat found;
    errno = 0;
    struct dirent *entry = readdir(stream);
    if (!entry) {
      if (errno) result = -1;
      break;
    }
    const char *name = entry->d_name;
    if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
    if (unlinkat(dirfd(stream), name, 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) {
      result = -1;
      break;
    }
    int below = openat(dirfd(stream), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below < 0 || fstat(below, &found)) {
      if (below >= 0) close(below);
      result = -1;
      break;
    }
    if (found.st_dev != device) {
      close(below);
      errno = EXDEV;
      result = -1;
      break;
    }
    if (remove_below(below, device, depth + 1) || unlinkat(dirfd(stream), name, AT_REMOVEDIR)) {
      result = -1;
      break;
    }
  }
  int error = errno;
  closedir(stream);
  errno = error;
  return result;
}

static int remove_all(const char *path) {
  struct stat found;
  if (lstat(path, &found)) return errno == ENOENT ? 0 : -1;
  if (!S_ISDIR(found.st_mode)) return unlink(path);
  int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (directory < 0) return -1;
  return remove_below(directory, found.st_dev, 0) ? -1 : rmdir(path);
}

static SYS_FUNCTION(sys_remove_all) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  return args_answer(&a, a.failed ? -1 : remove_all(path));
}

static SYS_FUNCTION(sys_readlink) {
  struct args a;
  char target[PATH_MAX];
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  ssize_t length = a.failed ? -1 : readlink(path, target, sizeof target);
  if (length < 0) return args_answer(&a, -1);
  args_free(&a);
  return JS_NewStringLen(ctx, target, (size_t)length);
}

static SYS_FUNCTION(sys_realpath) {
  struct args a;
  char resolved[PATH_MAX];
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  if (a.failed || !realpath(path, resolved)) return args_answer(&a, -1);
  args_free(&a);
  return JS_NewString(ctx, resolved);
}

static SYS_FUNCTION(sys_lchown) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  uint32_t uid = (uint32_t)args_int64(&a), gid = (uint32_t)args_int64(&a);
  return args_answer(&a, a.failed ? -1 : lchown(path, uid, gid));
}

static SYS_FUNCTION(sys_fchmod) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), mode = args_int(&a);
  return args_answer(&a, a.failed ? -1 : fchmod(fd, (mode_t)mode));
}

static SYS_FUNCTION(sys_fchown) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  uint32_t uid = (uint32_t)args_int64(&a), gid = (uint32_t)args_int64(&a);
  return args_answer(&a, a.failed ? -1 : fchown(fd, uid, gid));
}

static SYS_FUNCTION(sys_mknod) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int mode = args_int(&a), major = args_int(&a), minor = args_int(&a);
  if (a.failed) return args_answer(&a, -1);
  return args_answer(&a, mknod(path, (mode_t)mode, makedev((unsigned)major, (unsigned)minor)));
}

static SYS_FUNCTION(sys_umask) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int mask = args_int(&a);
  return args_answer(&a, a.failed ? -1 : (int)umask((mode_t)mask));
}

static JSValue stat_object(JSContext *ctx, const struct stat *found) {
  JSValue object = JS_NewObject(ctx);
  JS_SetPropertyStr(ctx, object, "mode", JS_NewInt64(ctx, found->st_mode));
  JS_SetPropertyStr(ctx, object, "size", JS_NewInt64(ctx, found->st_size));
  JS_SetPropertyStr(ctx, object, "ino", JS_NewInt64(ctx, (int64_t)found->st_ino));
  JS_SetPropertyStr(ctx, object, "dev", JS_NewInt64(ctx, (int64_t)found->st_dev));
  JS_SetPropertyStr(ctx, object, "rdevMajor", JS_NewInt64(ctx, major(found->st_rdev)));
  JS_SetPropertyStr(ctx, object, "rdevMinor", JS_NewInt64(ctx, minor(found->st_rdev)));
  JS_SetPropertyStr(ctx, object, "uid", JS_NewInt64(ctx, found->st_uid));
  JS_SetPropertyStr(ctx, object, "gid", JS_NewInt64(ctx, found->st_gid));
  JS_SetPropertyStr(ctx, object, "nlink", JS_NewInt64(ctx, (int64_t)found->st_nlink));
  JS_SetPropertyStr(ctx, object, "mtimeMs",
                    JS_NewFloat64(ctx, (double)found->st_mtim.tv_sec * 1e3 +
                                           (double)found->st_mtim.tv_nsec / 1e6));
  return object;
}

static JSValue sys_stat(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                        int follow) {
  struct args a;
  struct stat found;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  if (a.failed || (follow ? stat(path, &found) : lstat(path, &found))) return args_answer(&a, -1);
  args_free(&a);
  return stat_object(ctx, &found);
}

static SYS_FUNCTION(sys_fstat) {
  struct args a;
  struct stat found;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  if (a.failed || fstat(fd, &found)) return args_answer(&a, -1);
  args_free(&a);
  return stat_object(ctx, &found);
}

static SYS_FUNCTION(sys_statfs) {
  struct args a;
  struct statfs found;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  if (a.failed || statfs(path, &found)) return args_answer(&a, -1);
  args_free(&a);
  JSValue object = JS_NewObject(ctx);
  double block = (double)found.f_bsize;
  JS_SetPropertyStr(ctx, object, "type", JS_NewInt64(ctx, (int64_t)found.f_type));
  JS_SetPropertyStr(ctx, object, "sizeBytes", JS_NewFloat64(ctx, (double)found.f_blocks * block));
  JS_SetPropertyStr(ctx, object, "availableBytes",
                    JS_NewFloat64(ctx, (double)found.f_bavail * block));
  return object;
}

static int by_bytes(const struct dirent **first, const struct dirent **second) {
  return strcmp((*first)->d_name, (*second)->d_name);
}

static SYS_FUNCTION(sys_readdir) {
  struct args a;
  struct dirent **entries = NULL;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  int count = a.failed ? -1 : scandir(path, &entries, NULL, by_bytes);
  if (count < 0) return args_answer(&a, -1);
  args_free(&a);
  JSValue names = JS_NewArray(ctx);
  uint32_t used = 0;
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    if (strcmp(name, ".") && strcmp(name, "..")) {
      JS_SetPropertyUint32(ctx, names, used++, JS_NewString(ctx, name));
    }
    free(entries[i]);
  }
  free(entries);
  return names;
}

const JSCFunctionListEntry sys_files[] = {
    SYS_ENTRY("open", 3, sys_open),
    SYS_ENTRY("openat", 4, sys_openat),
    SYS_ENTRY("close", 1, sys_close),
    JS_CFUNC_MAGIC_DEF("read", 4, sys_transfer, READ),
    JS_CFUNC_MAGIC_DEF("write", 4, sys_transfer, WRITE),
    SYS_ENTRY("readInto", 2, sys_read_into),
    SYS_ENTRY("writeFrom", 4, sys_write_from),
    JS_CFUNC_MAGIC_DEF("pread", 5, sys_transfer, PREAD),
    JS_CFUNC_MAGIC_DEF("pwrite", 5, sys_transfer, PWRITE),
    SYS_ENTRY("readFile", 2, sys_read_file),
    SYS_ENTRY("writeFile", 4, sys_write_file),
    SYS_ENTRY("ftruncate", 2, sys_ftruncate),
    SYS_ENTRY("fsync", 1, sys_fsync),
    SYS_ENTRY("sync", 0, sys_sync),
    JS_CFUNC_MAGIC_DEF("mkdir", 2, sys_path_mode, MKDIR),
    JS_CFUNC_MAGIC_DEF("chmod", 2, sys_path_mode, CHMOD),
    JS_CFUNC_MAGIC_DEF("access", 2, sys_path_mode, ACCESS),
    SYS_ENTRY("mkdirAll", 2, sys_mkdir_all),
    JS_CFUNC_MAGIC_DEF("rmdir", 1, sys_path_only, RMDIR),
    JS_CFUNC_MAGIC_DEF("unlink", 1, sys_path_only, UNLINK),
    JS_CFUNC_MAGIC_DEF("rename", 2, sys_two_paths, RENAME),
    JS_CFUNC_MAGIC_DEF("link", 2, sys_two_paths, LINK),
    JS_CFUNC_MAGIC_DEF("symlink", 2, sys_two_paths, SYMLINK),
    SYS_ENTRY("removeAll", 1, sys_remove_all),
    SYS_ENTRY("readlink", 1, sys_readlink),
    SYS_ENTRY("realpath", 1, sys_realpath),
    SYS_ENTRY("lchown", 3, sys_lchown),
    SYS_ENTRY("fchmod", 2, sys_fchmod),
    SYS_ENTRY("fchown", 3, sys_fchown),
    SYS_ENTRY("mknod", 4, sys_mknod),
    SYS_ENTRY("umask", 1, sys_umask),
    JS_CFUNC_MAGIC_DEF("stat", 1, sys_stat, 1),
    JS_CFUNC_MAGIC_DEF("lstat", 1, sys_stat, 0),
    SYS_ENTRY("fstat", 1, sys_fstat),
    SYS_ENTRY("statfs", 1, sys_statfs),
    SYS_ENTRY("readdir", 1, sys_readdir),
};
const int sys_files_count = sizeof sys_files / sizeof sys_files[0];
