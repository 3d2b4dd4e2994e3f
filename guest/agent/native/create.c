// Makes a container and its init process, as `crun create` would, without another program: the child
// is cloned into its cgroup and into name spaces of its own, builds the root by a list of operations
// (see ../creation.ts), enters it, takes on the wanted rights, and waits to be let go.
//
// Every path of the container is looked up inside of its root (RESOLVE_IN_ROOT), and only
// descriptors of what was found are mounted on: a link of an image, or one that another container
// puts into a shared volume meanwhile, leads nowhere else.
#include "entering.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OPERATIONS_MAX 4096
// How often a look-up is tried that something else moves directories under.
#define LOOKUPS_MAX 64
// Of mount(2): <sys/mount.h> and <linux/mount.h> do not go together.
int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const void *data);
int umount2(const char *target, int flags);
#define DETACH 2

// The same numbers are in ../creation.ts.
enum kind {
  KIND_MOUNT = 0,     // a new file system: source, type, data; mount flags
  KIND_BIND,          // what is at source; MOUNT_ATTR_* set and cleared, whether with all below
  KIND_DEVICE,        // a node: mode, major, minor, user, group
  KIND_LINK,          // a symbolic link to source
  KIND_DIRECTORY,     // a directory, if it can be
  KIND_MASK,          // hides what is there: /dev/null over a file, source over a directory
  KIND_READONLY,      // makes what is there readable only
};
enum { TEXT_TARGET, TEXT_SOURCE, TEXT_TYPE, TEXT_DATA, TEXTS };
enum { NUMBER_KIND, NUMBER_A, NUMBER_B, NUMBER_C, NUMBER_D, NUMBER_E, NUMBERS };

struct creation {
  struct entering *process;
  const char *root;
  int readonly;
  char **texts;
  int64_t *numbers;
  int count;
};

// ---- in the child ----

static int look_up(int root, const char *path) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                         .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  for (int i = 0; i < LOOKUPS_MAX; i++) {
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN) return fd;
  }
  return -1;
}

// Makes what is missing of a path: directories, and at its end a file where it is no directory.
static int make_path(int root, const char *path, int is_directory) {
  char part[4096];
  size_t length = strlen(path);
  if (length >= sizeof part) {
    errno = ENAMETOOLONG;
    return -1;
  }
  int above = look_up(root, "/");
  for (size_t at = 0; above >= 0 && at < length;) {
    size_t name = at + strspn(path + at, "/");
    at = name + strcspn(path + name, "/");
    if (at == name) break;
    memcpy(part, path, at);
    part[at] = 0;
    int fd = look_up(root, part);
    if (fd < 0 && errno == ENOENT) {
      int is_file = at == length && !is_directory;
      int made = is_file ? openat(above, part + name, O_CREAT | O_EXCL | O_CLOEXEC, 0644)
                         : mkdirat(above, part + name, 0755);
      // Where something else has just made it that is as good.
      if (made < 0 && errno != EEXIST) break;
      if (is_file && made >= 0) close(made);
      fd = look_up(root, part);
    }
    close(above);
    above = fd;
    if (at == length) return above;
  }
  int error = errno;
  // Where all of it was slashes it is the root.
  if (above >= 0 && path[strspn(path, "/")] == 0) return above;
  if (above >= 0) close(above);
  errno = error;
  return -1;
}

static int find_or_make(int root, const char *path, int is_directory) {
  int fd = look_up(root, path);
  return fd >= 0 || errno != ENOENT ? fd : make_path(root, path, is_directory);
}

static int mount_new(int target, char **texts, unsigned long flags) {
  char place[32];
  snprintf(place, sizeof place, "/proc/self/fd/%d", target);
  const char *data = *texts[TEXT_DATA] ? texts[TEXT_DATA] : NULL;
  return mount(texts[TEXT_SOURCE], place, texts[TEXT_TYPE], flags, data);
}

static int set_attributes(int tree, uint64_t set, uint64_t clear) {
  struct mount_attr wanted = {.attr_set = set, .attr_clr = clear};
  if (set == 0 && clear == 0) return 0;
  return (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &wanted, sizeof wanted);
}

// Mounts what a descriptor or a path is about on top of `target`. The attributes are those of the
// topmost mount, as they are with mount(8).
static int bind_tree(int from, const char *path, int target, int recursive, uint64_t set,
                     uint64_t clear) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  int tree = (int)syscall(SYS_open_tree, from, path, flags | (recursive ? AT_RECURSIVE : 0));
  if (tree < 0) return -1;
  // It is private, as all mounts of this name space are.
  int failed = set_attributes(tree, set, clear) ||
               syscall(SYS_move_mount, tree, "", target, "",
                       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  int error = errno;
  close(tree);
  errno = error;
  return failed ? -1 : 0;
}

static int is_directory(int fd) {
  struct stat stat;
  return fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode);
}

static int bind_source(int root, char **texts, const int64_t *numbers) {
  int source = open(texts[TEXT_SOURCE], O_PATH | O_CLOEXEC), target = -1, failed = -1;
  if (source < 0) return -1;
  target = find_or_make(root, texts[TEXT_TARGET], is_directory(source));
  if (target >= 0) {
    failed = bind_tree(source, "", target, (int)numbers[NUMBER_C], (uint64_t)numbers[NUMBER_A],
                       (uint64_t)numbers[NUMBER_B]);
  }
  int error = errno;
  if (target >= 0) close(target);
  close(source);
  errno = error;
  return failed;
}

// Makes a node or a link; one that is there already stays as it is.
static int make_entry(int root, char **texts, const int64_t *numbers) {
  char above[4096];
  const char *path = texts[TEXT_TARGET], *name = strrchr(path, '/');
  if (!name || (size_t)(name - path) >= sizeof above) {
    errno = EINVAL;
    return -1;
  }
  snprintf(above, sizeof above, "%.*s/", (int)(name - path), path);
  int directory = find_or_make(root, above, 1), failed = -1;
  if (directory < 0) return -1;
  name++;
  if (numbers[NUMBER_KIND] == KIND_LINK) {
    failed = symlinkat(texts[TEXT_SOURCE], directory, name);
  } else {
    dev_t number = makedev((unsigned)numbers[NUMBER_B], (unsigned)numbers[NUMBER_C]);
    failed = mknodat(directory, name, (mode_t)numbers[NUMBER_A], number) ||
             fchownat(directory, name, (uid_t)numbers[NUMBER_D], (gid_t)numbers[NUMBER_E],
                      AT_SYMLINK_NOFOLLOW);
  }
  int error = errno;
  close(directory);
  errno = error;
  return failed && error != EEXIST ? -1 : 0;
}

// What is not there needs no cover.
static int cover(int root, char **texts, const int64_t *numbers) {
  int target = look_up(root, texts[TEXT_TARGET]), failed;
  if (target < 0) return errno == ENOENT || errno == EACCES ? 0 : -1;
  if (numbers[NUMBER_KIND] == KIND_READONLY) {
    failed = bind_tree(target, "", target, 1, MOUNT_ATTR_RDONLY, 0);
  } else {
    const char *source = is_directory(target) ? texts[TEXT_SOURCE] : "/dev/null";
    failed = bind_tree(AT_FDCWD, source, target, 0, MOUNT_ATTR_RDONLY, 0);
  }
  int error = errno;
  close(target);
  errno = error;
  return failed;
}

static int operate(int root, char **texts, const int64_t *numbers) {
  int target, failed;
  switch (numbers[NUMBER_KIND]) {
    case KIND_BIND:
      return bind_source(root, texts, numbers);
    case KIND_DEVICE:
    case KIND_LINK:
      return make_entry(root, texts, numbers);
    case KIND_MASK:
    case KIND_READONLY:
      return cover(root, texts, numbers);
    case KIND_DIRECTORY:
      target = find_or_make(root, texts[TEXT_TARGET], 1);
      if (target >= 0) close(target);
      return 0;
    default:
      target = find_or_make(root, texts[TEXT_TARGET], 1);
      if (target < 0) return -1;
      failed = mount_new(target, texts, (unsigned long)numbers[NUMBER_A]);
      int error = errno;
      close(target);
      errno = error;
      return failed;
  }
}

static void build_root(const struct creation *creation) {
  const unsigned long recursive = 16384, private = 1 << 18, bind = 4096;
  // Nothing that is mounted from here on is seen outside.
  if (mount(NULL, "/", NULL, recursive | private, NULL)) entering_fail(STEP_ROOT);
  if (mount(creation->root, creation->root, NULL, bind | recursive, NULL)) {
    entering_fail(STEP_ROOT);
  }
  int root = open(creation->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) entering_fail(STEP_ROOT);
  for (int i = 0; i < creation->count; i++) {
    if (operate(root, creation->texts + TEXTS * i, creation->numbers + NUMBERS * i)) {
      entering_fail(STEP_OPERATIONS + i);
    }
  }
  if (creation->readonly && set_attributes(root, MOUNT_ATTR_RDONLY, 0)) entering_fail(STEP_ROOT);
  // The old root comes to lie on top of the new one, and is taken away.
  if (fchdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", DETACH) || chdir("/")) {
    entering_fail(STEP_ROOT);
  }
  close(root);
}

// A stream that is /dev/null is the container's own from here on.
static void reopen_null(void) {
  for (int fd = 0; fd < 3; fd++) {
    struct stat stat;
    if (fstat(fd, &stat) || !S_ISCHR(stat.st_mode) || stat.st_rdev != makedev(1, 3)) continue;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, fd) < 0) entering_fail(STEP_DESCRIPTORS);
    close(null);
  }
}

// Whether a program is there, as execve(2) would see it.
static int is_program(const char *path) {
  struct stat stat_;
  if (stat(path, &stat_)) return 0;
  errno = EACCES;
  if (!S_ISREG(stat_.st_mode)) return 0;
  return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

// Tells now what would come up only when the container is started.
static void check_program(const struct entering *process) {
  char candidate[4096];
  const char *name = process->argv[0], *path = entering_value_of(process->env, "PATH");
  int error = ENOENT;
  if (strchr(name, '/')) {
    if (!is_program(name)) entering_fail(STEP_EXECUTE);
    return;
  }
  while (path && *name) {
    const char *end = strchrnul(path, ':');
    int length = snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(end - path), path, name);
    if (end > path && length > 0 && (size_t)length < sizeof candidate) {
      if (is_program(candidate)) return;
      if (errno == EACCES) error = EACCES;
    }
    path = *end ? end + 1 : NULL;
  }
  errno = error;
  entering_fail(STEP_EXECUTE);
}

static void wait_to_be_let_go(void) {
  int report[2] = {0, 0};
  char byte;
  ssize_t count;
  if (write(REPORT_FD, report, sizeof report) != sizeof report) _exit(126);
  close(REPORT_FD);
  do {
    count = read(GIVEN_FD, &byte, 1);
  } while (count < 0 && errno == EINTR);
  // The agent has given it up.
  if (count != 1) _exit(126);
}

static void run_init(struct creation *creation) {
  struct entering *process = creation->process;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  entering_place(process);
  entering_reset_signals();
  entering_set_oom_score(process);
  // It begins in its cgroup, which becomes the root of what it sees.
  if (unshare(CLONE_NEWCGROUP)) entering_fail(STEP_NAMESPACES);
  umask(0);
  build_root(creation);
  reopen_null();
  entering_set_limits(process);
  if (setsid() < 0) entering_fail(STEP_NAMESPACES);
  // Keys of the guest are not the container's. Kernels without keys are fine.
  syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL);
  int has_cwd = entering_go_to_cwd(process);
  entering_add_home(process);
  entering_give_pipes(process);
  umask(process->umask);
  entering_take_rights(process);
  if (!has_cwd && !entering_go_to_cwd(process)) entering_fail(STEP_CWD);
  check_program(process);
  wait_to_be_let_go();
  entering_execute(process->argv, process->env);
  // Nobody listens any more: it says so where the program would have written.
  dprintf(2, "exec container process `%s`: %s\n", process->argv[0], strerror(errno));
  _exit(1);
}

// ---- in the agent ----

static long start(struct creation *creation) {
  struct clone_args arguments = {.flags = CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWPID,
                                 .exit_signal = SIGCHLD,
                                 .cgroup = (uint64_t)creation->process->cgroup};
  sigset_t all, old;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &old);
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) run_init(creation);
  int error = errno;
  sigprocmask(SIG_SETMASK, &old, NULL);
  errno = error;
  return pid;
}

static char **read_texts(JSContext *ctx, JSValueConst object, int *count) {
  JSValue list = entering_field(ctx, object, "texts");
  char **texts = text_list(ctx, list);
  JS_FreeValue(ctx, list);
  *count = 0;
  while (texts && texts[*count]) ++*count;
  return texts;
}

static int read_operations(JSContext *ctx, JSValueConst object, struct creation *creation) {
  int count;
  creation->texts = read_texts(ctx, object, &count);
  if (!creation->texts) return -1;
  creation->count = count / TEXTS;
  int needed = creation->count * NUMBERS;
  creation->numbers = calloc((size_t)needed + 1, sizeof *creation->numbers);
  if (!creation->numbers) {
    JS_ThrowOutOfMemory(ctx);
    return -1;
  }
  int failed = 0;
  int given = entering_list(ctx, object, "numbers", creation->numbers, needed, &failed);
  if (!failed && (given != needed || count % TEXTS || creation->count > OPERATIONS_MAX)) {
    JS_ThrowRangeError(ctx, "texts and numbers do not match");
    failed = 1;
  }
  return failed ? -1 : 0;
}

static int read_creation(JSContext *ctx, JSValueConst object, struct creation *creation) {
  int failed = 0;
  creation->process = entering_read(ctx, object);
  if (!creation->process || read_operations(ctx, object, creation)) return -1;
  creation->readonly = (int)entering_number(ctx, object, "readonly", &failed);
  if (failed) return -1;
  JSValue root = entering_field(ctx, object, "root");
  creation->root = JS_ToCString(ctx, root);
  JS_FreeValue(ctx, root);
  return creation->root ? 0 : -1;
}

static void free_creation(JSContext *ctx, struct creation *creation) {
  entering_free(ctx, creation->process);
  text_list_free(creation->texts);
  free(creation->numbers);
  if (creation->root) JS_FreeCString(ctx, creation->root);
}

static SYS_FUNCTION(sys_create) {
  SYS_UNUSED;
  struct creation creation = {0};
  int reports[2] = {-1, -1}, letting_go[2] = {-1, -1};
  long pid = -1;
  if (read_creation(ctx, argc > 0 ? argv[0] : JS_UNDEFINED, &creation)) {
    free_creation(ctx, &creation);
    return JS_EXCEPTION;
  }
  errno = EINVAL;
  if (creation.process->argv[0] && pipe2(reports, O_CLOEXEC) == 0 &&
      pipe2(letting_go, O_CLOEXEC) == 0) {
    creation.process->report = reports[1];
    creation.process->given = letting_go[0];
    pid = start(&creation);
  }
  int error = errno;
  free_creation(ctx, &creation);
  if (reports[1] >= 0) close(reports[1]);
  if (letting_go[0] >= 0) close(letting_go[0]);
  if (pid < 0) {
    if (reports[0] >= 0) close(reports[0]);
    if (letting_go[1] >= 0) close(letting_go[1]);
    errno = error;
    return answer(ctx, -1);
  }
  JSValue made = JS_NewArray(ctx);
  JS_SetPropertyUint32(ctx, made, 0, JS_NewInt32(ctx, (int)pid));
  JS_SetPropertyUint32(ctx, made, 1, JS_NewInt32(ctx, reports[0]));
  JS_SetPropertyUint32(ctx, made, 2, JS_NewInt32(ctx, letting_go[1]));
  return made;
}

static SYS_FUNCTION(sys_load_device_filter) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  size_t length = 0;
  uint8_t *program = args_bytes(&a, &length);
  union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                         .insns = (uint64_t)(uintptr_t)program,
                         .insn_cnt = (uint32_t)(length / sizeof(struct bpf_insn)),
                         .license = (uint64_t)(uintptr_t) "GPL"};
  // The descriptor closes on execve: the kernel sees to that.
  return args_answer(&a, a.failed ? -1 : syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
}

static SYS_FUNCTION(sys_filter_devices) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int cgroup = args_int(&a), filter = args_int(&a);
  union bpf_attr attach = {.target_fd = (uint32_t)cgroup,
                           .attach_bpf_fd = (uint32_t)filter,
                           .attach_type = BPF_CGROUP_DEVICE,
                           .attach_flags = BPF_F_ALLOW_MULTI};
  return args_answer(&a, a.failed ? -1 : syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
}

const JSCFunctionListEntry sys_creating[] = {
    SYS_ENTRY("create", 1, sys_create),
    SYS_ENTRY("loadDeviceFilter", 3, sys_load_device_filter),
    SYS_ENTRY("filterDevices", 2, sys_filter_devices),
};
const int sys_creating_count = sizeof sys_creating / sizeof sys_creating[0];
