/*
 * `pod`: turns this process into the runtime process of one pod. It puts itself where the pod is
 * (cgroups, network namespace), shuts itself off from the rest of the machine (root directory,
 * capabilities, system calls), and then becomes the one program that was named when the launcher was
 * built. It stays the same process all along, so its number is known from the start.
 *
 *     quasaur-launcher pod --directory=DIR --tasks=PATH [--network=PATH] [--cgroup=DIR]...
 *                          [--writable=DIR]... [--readable=DIR]... ID
 *
 * The program gets its work on standard input, and the listening socket DIR/socket as descriptor 3.
 * Beside it runs the relay of task calls, from DIR/tasks to the sandboxer's socket PATH.
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "../../host/native/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * What build.ts says: the program with its arguments, its environment, and the files and directories
 * that it is made of. Lists of strings with commas in between.
 */
#if !defined(QUASAUR_POD_COMMAND) || !defined(QUASAUR_POD_ENVIRONMENT) || \
    !defined(QUASAUR_POD_FILES)
#error "launcher_pod.c: the program is not named: build with build.ts"
#endif

#if defined(__x86_64__)
#define POD_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define POD_ARCH AUDIT_ARCH_AARCH64
#else
#error "launcher_pod.c: only x86-64 and aarch64 are supported"
#endif

#define SOCKET_FD 3
#define SOCKET_BACKLOG 64
#define PATHS_MAX 64
#define PATH_BYTES_MAX 4096
/* A node that runs out of memory loses a pod before it loses the sandboxer. */
#define OOM_SCORE "500"

static char *COMMAND[] = {QUASAUR_POD_COMMAND, NULL};
static char *ENVIRONMENT[] = {QUASAUR_POD_ENVIRONMENT, NULL};
static char *FILES[] = {QUASAUR_POD_FILES, NULL};

/*
 * Stands in these lists for the directory above the launcher's: what lies together can be moved
 * together, and whoever may write there could put another launcher there as well.
 */
#define HERE "@HERE@"
#define HERE_BYTES_MAX 16384

/* Where the C library and the engine are found, on any Debian. Those that are missing are skipped. */
static const char *const LIBRARIES[] = {
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache", NULL,
};
static const char *const DEVICES[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", NULL,
};

/*
 * What the runtime needs for the threads of guests: it gives them their root directory, user and
 * groups, and takes these very capabilities from them; it favours its event loop; and it opens
 * programs of images whatever their owners. Nothing to mount, trace, load or administer with.
 */
static const int CAPABILITIES[] = {CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID,
                                   CAP_SETPCAP,      CAP_SYS_CHROOT, CAP_SYS_NICE};
#define CAPABILITY_LAST 63

struct pod {
  const char *id;
  const char *directory;
  const char *tasks;
  const char *network;
  const char *cgroups[PATHS_MAX];
  const char *writable[PATHS_MAX];
  const char *readable[PATHS_MAX];
  int directory_fd;
};

static int fail(const char *what, const char *which) {
  launcher_say("cannot start the pod: %s \"%.200s\": %s", what, which, strerror(errno));
  return LAUNCHER_CANNOT;
}

/* The directory above the launcher's, as the kernel knows it; without it where there is none. */
static bool find_here(char *here, size_t size) {
  const ssize_t length = readlink("/proc/self/exe", here, size - 1);
  if (length <= 0) return false;
  here[length] = '\0';
  for (int i = 0; i < 2; i++) {
    char *slash = strrchr(here, '/');
    if (slash == NULL) return false;
    *slash = '\0';
  }
  return true;
}

/* Puts the directory into the texts of a list that name it; they stay in the buffer. */
static bool put_here(char **list, const char *here, char **buffer, const char *end) {
  for (; *list != NULL; list++) {
    const char *name = strstr(*list, HERE);
    if (name == NULL) continue;
    const size_t room = (size_t)(end - *buffer);
    const int length = snprintf(*buffer, room, "%.*s%s%s", (int)(name - *list), *list, here,
                                name + sizeof HERE - 1);
    if (length < 0 || (size_t)length >= room) return false;
    *list = *buffer;
    *buffer += length + 1;
  }
  return true;
}

/* Where the program is, for one that lies beside the launcher. */
static int find_program(void) {
  static char texts[HERE_BYTES_MAX];
  char here[PATH_BYTES_MAX];
  char *at = texts;
  const char *end = texts + sizeof texts;
  if (!find_here(here, sizeof here)) return fail("cannot read", "/proc/self/exe");
  if (put_here(COMMAND, here, &at, end) && put_here(ENVIRONMENT, here, &at, end) &&
      put_here(FILES, here, &at, end)) {
    return LAUNCHER_OK;
  }
  errno = ENAMETOOLONG;
  return fail("cannot name", here);
}

/* Adds to a list that ends with NULL. */
static bool append(const char **list, const char *path) {
  if (path[0] != '/') return false;
  for (size_t i = 0; i < PATHS_MAX - 1; i++) {
    if (list[i] != NULL) continue;
    list[i] = path;
    return true;
  }
  return false;
}

static bool take_option(struct pod *pod, const char *argument) {
  const char *value = strchr(argument, '=');
  if (value == NULL || value[1] != '/') return false;
  value++;
  const size_t length = (size_t)(value - argument);
#define IS(name) (length == sizeof name - 1 && strncmp(argument, name, length) == 0)
  if (IS("--cgroup=")) return append(pod->cgroups, value);
  if (IS("--writable=")) return append(pod->writable, value);
  if (IS("--readable=")) return append(pod->readable, value);
  if (IS("--directory=")) pod->directory = value;
  else if (IS("--network=")) pod->network = value;
  else if (IS("--tasks=")) pod->tasks = value;
  else return false;
#undef IS
  return true;
}

static int parse(struct pod *pod, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const bool is_option = argv[i][0] == '-';
    if (is_option && take_option(pod, argv[i])) continue;
    if (!is_option && pod->id == NULL) {
      pod->id = argv[i];
      continue;
    }
    launcher_say("unknown argument of \"pod\": \"%.200s\"", argv[i]);
    return LAUNCHER_USAGE;
  }
  if (pod->id != NULL && pod->directory != NULL && pod->tasks != NULL) return LAUNCHER_OK;
  launcher_say("\"pod\" needs --directory=DIR, --tasks=PATH and the id of the pod");
  return LAUNCHER_USAGE;
}

static bool write_text(int directory, const char *path, int flags, const char *text) {
  const int fd = openat(directory, path, O_WRONLY | O_CLOEXEC | flags, 0600);
  if (fd < 0) return false;
  const bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  const int error = errno;
  (void)close(fd);
  errno = error;
  return written;
}

/* When this process was started, the 22nd word of its status: proc_pid_stat(5). */
static bool read_start_time(char *text, size_t size) {
  char status[1024] = "";
  const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
  if (fd >= 0) (void)close(fd);
  if (length <= 0) return false;
  /* The name in it may hold spaces and brackets. The 20 words behind it are counted. */
  char *word = strrchr(status, ')');
  for (int i = 0; word != NULL && i < 20; i++) word = strchr(word + 1, ' ');
  if (word == NULL) return false;
  (void)snprintf(text, size, "%.*s", (int)strcspn(word + 1, " "), word + 1);
  return true;
}

/* Who this is, for a sandboxer that starts before the one that started this could write it down. */
static int leave_identity(const struct pod *pod) {
  char start_time[32];
  char text[64];
  if (!read_start_time(start_time, sizeof start_time)) return fail("cannot read", "/proc/self/stat");
  (void)snprintf(text, sizeof text, "%d %s", (int)getpid(), start_time);
  if (write_text(pod->directory_fd, "process", O_CREAT | O_TRUNC, text)) return LAUNCHER_OK;
  return fail("no file \"process\" in", pod->directory);
}

/* A socket in the pod's directory, which is bound by its name alone: its path may be too long. */
static int listen_at(const struct pod *pod, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const mode_t mask = umask(0177);
  const bool listens = fd >= 0 && fchdir(pod->directory_fd) == 0 &&
                       (unlink(name) == 0 || errno == ENOENT) &&
                       bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
                       listen(fd, SOCKET_BACKLOG) == 0 && chdir("/") == 0;
  (void)umask(mask);
  if (listens) return fd;
  if (fd >= 0) (void)close(fd);
  return -1;
}

static int open_socket(const struct pod *pod) {
  const int fd = listen_at(pod, "socket");
  if (fd >= 0 && (fd == SOCKET_FD || dup3(fd, SOCKET_FD, O_CLOEXEC) == SOCKET_FD)) {
    return LAUNCHER_OK;
  }
  return fail("no socket in", pod->directory);
}

/* Its process is a child of this one, and ends with it. */
static int start_relay(const struct pod *pod) {
  char parent[PATH_BYTES_MAX];
  const char *name = strrchr(pod->tasks, '/') + 1;
  (void)snprintf(parent, sizeof parent, "%.*s", (int)(name - pod->tasks), pod->tasks);
  const int directory = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return fail("no directory", parent);
  const int listener = listen_at(pod, "tasks");
  if (listener < 0) return fail("no task socket in", pod->directory);
  const int started = relay_fork(listener, directory, name);
  (void)close(listener);
  (void)close(directory);
  return started == 0 ? LAUNCHER_OK : fail("no process for", pod->tasks);
}

static int enter_cgroups(const struct pod *pod) {
  (void)setsid(); /* fails only where it leads a session already */
  for (size_t i = 0; pod->cgroups[i] != NULL; i++) {
    char path[PATH_BYTES_MAX];
    (void)snprintf(path, sizeof path, "%s/cgroup.procs", pod->cgroups[i]);
    if (!write_text(AT_FDCWD, path, 0, "0")) return fail("cannot enter the cgroup", path);
  }
  return LAUNCHER_OK;
}

static int enter_network(const struct pod *pod) {
  /* Going up is always allowed; where /proc is not writable it stays as it is. */
  (void)write_text(AT_FDCWD, "/proc/self/oom_score_adj", 0, OOM_SCORE);
  if (pod->network == NULL) return LAUNCHER_OK;
  const int network = open(pod->network, O_RDONLY | O_CLOEXEC);
  if (network < 0 || setns(network, CLONE_NEWNET) != 0) {
    return fail("cannot enter the network namespace", pod->network);
  }
  (void)close(network);
  return LAUNCHER_OK;
}

/* Makes the directories above a path below the new root, which is the working directory. */
static bool make_parents(const char *path) {
  char copy[PATH_BYTES_MAX];
  if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) return false;
  for (char *at = copy; (at = strchr(at, '/')) != NULL; at++) {
    *at = '\0';
    if (mkdir(copy, 0755) != 0 && errno != EEXIST) return false;
    *at = '/';
  }
  return true;
}

/* Shows a file or directory of the host at the same path of the new root. */
static bool show(const char *path, const char *source, unsigned long flags) {
  const char *target = path + 1;
  struct stat status;
  struct stat shown;
  if (stat(source, &status) != 0) return false;
  /* What lies in something that is shown already, such as a program below /usr/lib. */
  if ((flags & MS_RDONLY) != 0 && stat(target, &shown) == 0 && shown.st_ino == status.st_ino &&
      shown.st_dev == status.st_dev) {
    return true;
  }
  if (!make_parents(target)) return false;
  if (S_ISDIR(status.st_mode)) {
    if (mkdir(target, 0755) != 0 && errno != EEXIST) return false;
  } else {
    const int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    if (fd < 0) return false;
    (void)close(fd);
  }
  return mount(source, target, NULL, MS_BIND, NULL) == 0 &&
         mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | flags, NULL) == 0;
}

static bool show_library(const char *path) {
  char target[PATH_BYTES_MAX];
  const ssize_t length = readlink(path, target, sizeof target - 1);
  if (length < 0) {
    if (errno == ENOENT) return true;
    return show(path, path, MS_RDONLY | MS_NODEV);
  }
  /* Such as /lib where all libraries are below /usr. */
  target[length] = '\0';
  return symlink(target, path + 1) == 0;
}

/* A root directory with what the program is made of, and nothing else of the host's. */
static int make_root(const struct pod *pod) {
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0 ||
      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
    return fail("no mounts of its own for", pod->id);
  }
  /* The new root covers the pod's directory. It is opened once more, as it is in these mounts. */
  char covered[64];
  const int covered_fd = open(pod->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  (void)snprintf(covered, sizeof covered, "/proc/self/fd/%d", covered_fd);
  if (covered_fd < 0 ||
      mount("quasaur", pod->directory, "tmpfs", flags, "size=1m,nr_inodes=4096,mode=0755") != 0 ||
      chdir(pod->directory) != 0) {
    return fail("no root directory at", pod->directory);
  }
  for (size_t i = 0; LIBRARIES[i] != NULL; i++) {
    if (!show_library(LIBRARIES[i])) return fail("cannot show", LIBRARIES[i]);
  }
  for (size_t i = 0; DEVICES[i] != NULL; i++) {
    if (!show(DEVICES[i], DEVICES[i], MS_NOEXEC)) return fail("cannot show", DEVICES[i]);
  }
  for (size_t i = 0; FILES[i] != NULL; i++) {
    if (!show(FILES[i], FILES[i], MS_RDONLY | MS_NODEV)) return fail("cannot show", FILES[i]);
  }
  for (size_t i = 0; pod->readable[i] != NULL; i++) {
    const char *path = pod->readable[i];
    if (!show(path, path, MS_RDONLY | MS_NODEV | MS_NOEXEC)) return fail("cannot show", path);
  }
  for (size_t i = 0; pod->writable[i] != NULL; i++) {
    const char *path = pod->writable[i];
    if (!show(path, path, MS_NODEV | MS_NOEXEC)) return fail("cannot show", path);
  }
  if (!show(pod->directory, covered, MS_RDONLY | MS_NODEV | MS_NOEXEC)) {
    return fail("cannot show", pod->directory);
  }
  /* Processes only, and of those only its own: nothing to set, and nobody to look at. */
  if (mkdir("proc", 0555) != 0 ||
      mount("proc", "proc", "proc", flags, "hidepid=ptraceable,subset=pid") != 0) {
    return fail("cannot mount", "/proc");
  }
  return LAUNCHER_OK;
}

static int change_root(void) {
  /* With both arguments the same, the old root lies on top of the new one: pivot_root(2). */
  const bool pivoted = syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0;
  /* On a machine that runs from its initial RAM file system nothing can be pivoted. */
  const bool moved =
      pivoted || (errno == EINVAL && mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0);
  const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (moved && chdir("/") == 0 && mount(NULL, "/", NULL, flags, NULL) == 0) return LAUNCHER_OK;
  return fail("cannot change to the root directory of", "the pod");
}

static int set_limits(void) {
  const struct rlimit none = {0, 0};
  struct rlimit files;
  if (setrlimit(RLIMIT_CORE, &none) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0) {
    return fail("cannot limit", "core files");
  }
  files.rlim_cur = files.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &files) == 0 ? LAUNCHER_OK : fail("cannot raise", "open files");
}

/* Root gets, when it executes a program, what the bounding set leaves: capabilities(7). */
static int drop_capabilities(void) {
  const size_t count = sizeof CAPABILITIES / sizeof CAPABILITIES[0];
  for (int capability = 0; capability <= CAPABILITY_LAST; capability++) {
    bool is_kept = false;
    for (size_t i = 0; i < count; i++) is_kept = is_kept || CAPABILITIES[i] == capability;
    if (is_kept) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) {
      return fail("cannot drop", "capabilities");
    }
  }
  return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0
             ? LAUNCHER_OK
             : fail("cannot drop", "ambient capabilities");
}


/*
 * What a runtime of guests never does: look at or touch other processes, mount, change namespaces,
 * reach files by handles, load code into the kernel, or use its larger interfaces.
 */
static const unsigned DENIED[] = {
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_kcmp,
    SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_tkill, SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_fsopen, SYS_fsconfig,
    SYS_fsmount, SYS_fspick, SYS_move_mount, SYS_open_tree, SYS_mount_setattr, SYS_setns,
    SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_init_module, SYS_finit_module,
    SYS_delete_module, SYS_kexec_load, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd,
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_add_key, SYS_request_key,
    SYS_keyctl, SYS_swapon, SYS_swapoff, SYS_reboot, SYS_syslog, SYS_acct, SYS_quotactl,
    SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname,
    SYS_mknodat, SYS_fanotify_init, SYS_lookup_dcookie, SYS_vhangup, SYS_personality,
#if defined(__x86_64__)
    SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_kexec_file_load,
#endif
};

#define DENIED_COUNT (sizeof DENIED / sizeof DENIED[0])
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define REFUSE ANSWER(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW ANSWER(SECCOMP_RET_ALLOW)
/* Refuses one call. */
#define DENY(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), REFUSE
/* Allows one call for this process alone: its first argument is a process id. */
#define ONLY_SELF(call)                                        \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 4),           \
      LOAD(args[0]), /* the low half: both machines are little-endian */ \
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, self, 0, 1), ALLOW, REFUSE

static int filter_calls(void) {
  const unsigned self = (unsigned)getpid();
  const struct sock_filter first[] = {
      LOAD(arch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, POD_ARCH, 1, 0),
      ANSWER(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
#if defined(__x86_64__)
      /* The x32 numbers share the audit arch of x86-64. */
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
      REFUSE,
#endif
      ONLY_SELF(SYS_kill),
      ONLY_SELF(SYS_tgkill),
  };
  struct sock_filter code[sizeof first / sizeof first[0] + 2 * DENIED_COUNT + 1];
  size_t n = sizeof first / sizeof first[0];
  memcpy(code, first, sizeof first);
  for (size_t i = 0; i < DENIED_COUNT; i++) {
    const struct sock_filter deny[] = {DENY(DENIED[i])};
    memcpy(code + n, deny, sizeof deny);
    n += sizeof deny / sizeof deny[0];
  }
  code[n++] = (struct sock_filter)ALLOW;
  const struct sock_fprog program = {(unsigned short)n, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) {
    return LAUNCHER_OK;
  }
  return fail("cannot filter", "system calls");
}

/* Becomes the program. Its name in lists of processes says which pod it is. */
static int become(const struct pod *pod) {
  char name[128];
  (void)snprintf(name, sizeof name, "quasaur-pod %.100s", pod->id);
  char *arguments[sizeof COMMAND / sizeof COMMAND[0]];
  memcpy(arguments, COMMAND, sizeof arguments);
  arguments[0] = name;
  if (fcntl(SOCKET_FD, F_SETFD, 0) != 0 || close_range(SOCKET_FD + 1, ~0u, 0) != 0) {
    return fail("cannot keep", "the socket");
  }
  (void)execve(COMMAND[0], arguments, ENVIRONMENT);
  return fail("cannot execute", COMMAND[0]);
}

int launcher_pod(int argc, char **argv) {
  struct pod pod = {0};
  int status = parse(&pod, argc, argv);
  if (status != LAUNCHER_OK) return status;
  if ((status = find_program()) != LAUNCHER_OK) return status;
  /* What was inherited by mistake is closed first, and 3 kept free for the socket. */
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return fail("cannot close", "descriptors");
  const int fd = open(pod.directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return fail("no directory", pod.directory);
  pod.directory_fd = fcntl(fd, F_DUPFD_CLOEXEC, SOCKET_FD + 1);
  if (pod.directory_fd < 0 || close(fd) != 0) return fail("no directory", pod.directory);
  if ((status = leave_identity(&pod)) != LAUNCHER_OK) return status;
  if ((status = open_socket(&pod)) != LAUNCHER_OK) return status;
  if ((status = enter_cgroups(&pod)) != LAUNCHER_OK) return status;
  if ((status = start_relay(&pod)) != LAUNCHER_OK) return status;
  if ((status = enter_network(&pod)) != LAUNCHER_OK) return status;
  if ((status = make_root(&pod)) != LAUNCHER_OK) return status;
  if ((status = change_root()) != LAUNCHER_OK) return status;
  if ((status = set_limits()) != LAUNCHER_OK) return status;
  if ((status = drop_capabilities()) != LAUNCHER_OK) return status;
  if ((status = filter_calls()) != LAUNCHER_OK) return status;
  return become(&pod);
}
