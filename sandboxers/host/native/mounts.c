/*
 * Verbs that mount and unmount, in the mount namespace of who asks.
 *
 *     mount TARGET {TYPE SOURCE FLAGS COUNT OPTION...}...   several at one directory, the last on top
 *     bind {rw|ro[,recursive] SOURCE TARGET}...             each at its own place
 *     umount TARGET...
 *     share TARGET                                          a directory, as a mount of its own
 *
 * TYPE is `bind`, `tmpfs`, `overlay`, or `overlay-by-option` for more options than mount(2) takes.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <sys/mount.h> and <linux/mount.h> cannot both be included with every C library. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

#define STACKED_MAX 256
#define MOUNTS_MAX 1024
#define OPTIONS_MAX 4096
#define VALUE_BYTES_MAX 255

/* Flags that a bind mount takes only in a second step. */
#define BIND_LATER                                                                              \
  (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME |    \
   MS_STRICTATIME)

static const struct {
  unsigned long flag;
  unsigned attribute;
} ATTRIBUTES[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY},   {MS_NOSUID, MOUNT_ATTR_NOSUID},
    {MS_NODEV, MOUNT_ATTR_NODEV},     {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    {MS_NOATIME, MOUNT_ATTR_NOATIME}, {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
    {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
};

struct wanted {
  const char *type;
  const char *source;
  unsigned long flags;
  uint64_t count;
  char **options;
};

static int cannot_mount(const struct wanted *wanted, const char *target) {
  return host_fail_errno("cannot mount \"%.500s\" (%.20s) at \"%.500s\"", wanted->source,
                         wanted->type, target);
}

/* Takes the topmost mount of a place away, with what is below it; what is in use goes out of sight. */
static int umount_one(const char *target) { return umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW); }

static int set_option(int context, char *option) {
  char *value = strchr(option, '=');
  if (value == NULL) return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, option, NULL, 0);
  *value++ = '\0';
  if (strlen(value) <= VALUE_BYTES_MAX) {
    return (int)syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, option, value, 0);
  }
  errno = ENAMETOOLONG;
  return -1;
}

/* An overlay whose options do not fit into one page: option by option, layer by layer. */
static int mount_by_option(const struct wanted *wanted, const char *target) {
  const int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int tree = -1;
  bool done = true;
  for (uint64_t i = 0; done && i < wanted->count; i++) {
    done = set_option(context, wanted->options[i]) == 0;
  }
  unsigned attributes = 0;
  for (size_t i = 0; i < sizeof ATTRIBUTES / sizeof ATTRIBUTES[0]; i++) {
    if ((wanted->flags & ATTRIBUTES[i].flag) != 0) attributes |= ATTRIBUTES[i].attribute;
  }
  done = done && syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
  if (done) tree = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
  done = tree >= 0 &&
         syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) == 0;
  const int error = errno;
  if (tree >= 0) (void)close(tree);
  (void)close(context);
  errno = error;
  return done ? 0 : -1;
}

/* Mounts one; undoes itself where its second step fails. */
static int mount_one(const struct wanted *wanted, const char *target) {
  if (strcmp(wanted->type, "overlay-by-option") == 0) return mount_by_option(wanted, target);
  const bool is_bind = strcmp(wanted->type, "bind") == 0;
  const char *data = wanted->count == 1 ? wanted->options[0] : "";
  const unsigned long first = is_bind ? wanted->flags & (MS_BIND | MS_REC) : wanted->flags;
  if (mount(wanted->source, target, wanted->type, first, data) != 0) return -1;
  const unsigned long later = wanted->flags & BIND_LATER;
  if (!is_bind || later == 0) return 0;
  if (mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | later, NULL) == 0) return 0;
  const int error = errno;
  (void)umount_one(target);
  errno = error;
  return -1;
}

/* Reads one group of arguments; returns how many there were, or 0. */
static int parse(int argc, char **argv, struct wanted *wanted) {
  static const char *const TYPES[] = {"bind", "tmpfs", "overlay", "overlay-by-option"};
  if (argc < 4) return 0;
  uint64_t flags = 0;
  bool is_known = false;
  for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
    is_known = is_known || strcmp(argv[0], TYPES[i]) == 0;
  }
  if (!is_known || !host_parse_number(argv[2], UINT32_MAX, &flags) ||
      !host_parse_number(argv[3], OPTIONS_MAX, &wanted->count) ||
      wanted->count > (uint64_t)(argc - 4)) {
    return 0;
  }
  wanted->type = argv[0];
  wanted->source = argv[1];
  wanted->flags = (unsigned long)flags;
  wanted->options = argv + 4;
  return 4 + (int)wanted->count;
}

int host_mount(int argc, char **argv) {
  if (argc < 6 || argv[1][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a directory and mounts");
  }
  const char *target = argv[1];
  int mounted = 0;
  for (int at = 2; at < argc;) {
    struct wanted wanted = {0};
    const int length = parse(argc - at, argv + at, &wanted);
    int status = 0;
    if (length == 0 || mounted >= STACKED_MAX) {
      status = host_fail(CODE_INVALID_ARGUMENT, "cannot mount at \"%.500s\": wrong argument \"%.200s\"",
                         target, argv[at]);
    } else if (mount_one(&wanted, target) != 0) {
      status = cannot_mount(&wanted, target);
    }
    if (status != 0) {
      while (mounted-- > 0) (void)umount_one(target);
      return status;
    }
    mounted++;
    at += length;
  }
  return 0;
}

static bool is_mount_root(const char *path) {
  struct statx status;
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if (statx(AT_FDCWD, path, flags, 0, &status) != 0) return false;
  return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int umount_all(const char *target) {
  for (int i = 0; i < STACKED_MAX; i++) {
    if (umount_one(target) != 0) {
      if (errno == EINVAL || errno == ENOENT) return 0;
      return host_fail_errno("cannot unmount \"%.500s\"", target);
    }
    if (!is_mount_root(target)) return 0;
  }
  return host_fail(CODE_INTERNAL, "cannot unmount \"%.500s\": more than %d mounts are on it", target,
                   STACKED_MAX);
}

int host_umount(int argc, char **argv) {
  int status = 0;
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] != '/') {
      return host_fail(CODE_INVALID_ARGUMENT, "cannot unmount \"%.200s\": expected an absolute path",
                       argv[i]);
    }
    const int failed = umount_all(argv[i]);
    if (status == 0) status = failed;
  }
  return status;
}

struct bind {
  bool is_readonly;
  bool is_recursive;
  const char *source;
  const char *target;
};

/* Read-only is made before anybody can see it. */
static int bind_one(const struct bind *bind) {
  const unsigned recursive = bind->is_recursive ? AT_RECURSIVE : 0;
  const int tree = (int)syscall(SYS_open_tree, AT_FDCWD, bind->source,
                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
  if (tree < 0) return -1;
  /* Never devices or other users' programs of the host by way of a volume. */
  const struct mount_attr attributes = {
      .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
                  (bind->is_readonly ? (uint64_t)MOUNT_ATTR_RDONLY : 0),
  };
  int done = (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | recursive, &attributes,
                          sizeof attributes);
  if (done == 0) {
    done = (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, bind->target, MOVE_MOUNT_F_EMPTY_PATH);
  }
  const int error = errno;
  (void)close(tree);
  errno = error;
  return done;
}

static bool parse_bind(char **argv, struct bind *bind) {
  const char *mode = argv[0];
  bind->is_readonly = strncmp(mode, "ro", 2) == 0;
  bind->is_recursive = strlen(mode) > 2;
  bind->source = argv[1];
  bind->target = argv[2];
  const bool is_mode = strcmp(mode, "ro") == 0 || strcmp(mode, "rw") == 0 ||
                       strcmp(mode, "ro,recursive") == 0 || strcmp(mode, "rw,recursive") == 0;
  return is_mode && bind->source[0] == '/' && bind->target[0] == '/';
}

int host_bind(int argc, char **argv) {
  const int count = (argc - 1) / 3;
  if (argc < 4 || (argc - 1) % 3 != 0 || count > MOUNTS_MAX) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected mounts of three arguments each, at most %d",
                     MOUNTS_MAX);
  }
  for (int i = 0; i < count; i++) {
    struct bind bind;
    int status = 0;
    if (!parse_bind(argv + 1 + 3 * i, &bind)) {
      status = host_fail(CODE_INVALID_ARGUMENT, "cannot mount: wrong argument \"%.200s\"",
                         argv[1 + 3 * i]);
    } else if (bind_one(&bind) != 0) {
      status = host_fail_errno("cannot mount \"%.500s\" at \"%.500s\"", bind.source, bind.target);
    }
    if (status == 0) continue;
    while (i-- > 0) (void)umount_one(argv[1 + 3 * i + 2]);
    return status;
  }
  return 0;
}

/*
 * Puts a directory on itself, so that it is a mount, and shares that: what is mounted below it later
 * is seen in mount namespaces that are made from this one, whatever this host does by default.
 */
int host_share(int argc, char **argv) {
  if (argc != 2 || argv[1][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a directory");
  }
  const char *target = argv[1];
  if (mount(target, target, NULL, MS_BIND, NULL) != 0) {
    return host_fail_errno("cannot mount \"%.500s\" on itself", target);
  }
  if (mount(NULL, target, NULL, MS_SHARED, NULL) == 0) return 0;
  const int status = host_fail_errno("cannot share the mount at \"%.500s\"", target);
  (void)umount_one(target);
  return status;
}
