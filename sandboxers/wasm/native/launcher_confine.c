/* The room that `compile` works in: see launcher.h. Nothing here has seen the module yet. */
#define _GNU_SOURCE
#include "launcher.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define LAUNCHER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define LAUNCHER_ARCH AUDIT_ARCH_AARCH64
#else
#error "launcher_confine.c: only x86-64 and aarch64 are supported"
#endif

/* Owns nothing anywhere: the user that systems call nobody. */
#define NOBODY 65534
/* Any directory that every system has: a private file system is mounted over it, in private. */
#define MOUNT_POINT "/proc"
/* Most bytes of /proc/cpuinfo that are shown to the compiler. */
#define CPUINFO_BYTES_MAX (1u << 20)
/* The compiler uses one thread, its linker one for each processor that it sees. */
#define PROCESSORS_MAX 4
/* Address space beside private memory: libraries, files that are mapped, what is only reserved. */
#define ADDRESS_BYTES_MORE (4ull << 30)

static const int NAMESPACES =
    CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWCGROUP;

static bool write_file(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  (void)close(fd);
  return written;
}

/* A user namespace gives an ordinary user the rest of them, where the host allows it. */
static bool enter_user_namespace(void) {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER | NAMESPACES) != 0) return false;
  char map[64];
  (void)snprintf(map, sizeof map, "%d %u 1", NOBODY, uid);
  if (!write_file("/proc/self/uid_map", map)) return false;
  if (!write_file("/proc/self/setgroups", "deny")) return false;
  (void)snprintf(map, sizeof map, "%d %u 1", NOBODY, gid);
  return write_file("/proc/self/gid_map", map);
}

/* LLVM reads the processor's kind there on some machines. */
static void copy_cpuinfo(const char *content) {
  if (mkdir("proc", 0755) != 0) return;
  const int fd = open("proc/cpuinfo", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
  if (fd < 0) return;
  ssize_t written = write(fd, content, strlen(content));
  (void)written; /* without it the code is made for a plainer processor */
  (void)close(fd);
}

static char *read_cpuinfo(void) {
  const int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
  char *content = calloc(1, CPUINFO_BYTES_MAX + 1);
  size_t length = 0;
  while (fd >= 0 && content != NULL && length < CPUINFO_BYTES_MAX) {
    const ssize_t got = read(fd, content + length, CPUINFO_BYTES_MAX - length);
    if (got <= 0) break;
    length += (size_t)got;
  }
  if (fd >= 0) (void)close(fd);
  return content;
}

/* Makes a new, empty file system the root, and lets go of the old one. */
static bool move_into_private_root(const struct launcher_room *room) {
  char options[160];
  (void)snprintf(options, sizeof options, "size=%llu,nr_inodes=32,mode=0755", room->scratch_bytes);
  char *cpuinfo = read_cpuinfo();
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  bool moved = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("quasaur", MOUNT_POINT, "tmpfs", flags, options) == 0 &&
               chdir(MOUNT_POINT) == 0;
  if (moved) {
    if (cpuinfo != NULL) copy_cpuinfo(cpuinfo);
    const bool changed = mkdir("work", 0700) == 0 && chown("work", NOBODY, NOBODY) == 0;
    /* With both arguments the same, the old root lies on top of the new one: pivot_root(2). */
    const bool pivoted = syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0;
    /* On a machine that runs from its initial RAM file system nothing can be pivoted. */
    moved = changed && (pivoted || (errno == EINVAL && chroot(".") == 0)) && chdir("/work") == 0;
  }
  free(cpuinfo);
  return moved;
}

int launcher_make_room(struct launcher_room *room) {
  const bool is_root = geteuid() == 0;
  const bool has_namespaces = is_root ? unshare(NAMESPACES) == 0 : enter_user_namespace();
  if (has_namespaces && move_into_private_root(room)) {
    room->is_private = 1;
    (void)strcpy(room->directory, "/work");
    return LAUNCHER_OK;
  }
  if (is_root) {
    launcher_say("cannot confine the compiler: no %s of its own: %s: expected CAP_SYS_ADMIN",
                 has_namespaces ? "root directory" : "namespaces", strerror(errno));
    return LAUNCHER_CANNOT;
  }
  room->is_private = 0;
  (void)strcpy(room->directory, "/tmp/quasaur-compile-XXXXXX");
  if (mkdtemp(room->directory) != NULL && chdir(room->directory) == 0) return LAUNCHER_OK;
  launcher_say("cannot make a directory in /tmp: %s", strerror(errno));
  return LAUNCHER_CANNOT;
}

void launcher_leave_room(const struct launcher_room *room) {
  if (room->is_private) return; /* it goes with the namespace */
  DIR *directory = opendir(room->directory);
  if (directory == NULL) return;
  for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    (void)unlinkat(dirfd(directory), entry->d_name, 0);
  }
  (void)closedir(directory);
  (void)rmdir(room->directory);
}

static bool limit(__rlimit_resource_t resource, unsigned long long value) {
  struct rlimit old;
  if (getrlimit(resource, &old) != 0) return false;
  const rlim_t wanted = old.rlim_max < value ? old.rlim_max : value;
  const struct rlimit both = {wanted, wanted};
  return setrlimit(resource, &both) == 0;
}

static bool set_limits(const struct launcher_room *room) {
  /* The soft limit of CPU time sends a signal that is told from others; the hard one kills. */
  const struct rlimit cpu = {room->cpu_seconds, room->cpu_seconds + 2};
  return limit(RLIMIT_CORE, 0) && limit(RLIMIT_NOFILE, 64) && limit(RLIMIT_MEMLOCK, 0) &&
         limit(RLIMIT_MSGQUEUE, 0) && limit(RLIMIT_FSIZE, room->file_bytes) &&
         limit(RLIMIT_DATA, room->memory_bytes) &&
         limit(RLIMIT_AS, room->memory_bytes + ADDRESS_BYTES_MORE) &&
         setrlimit(RLIMIT_CPU, &cpu) == 0;
}

/* Keeps to a few of the processors that it may use, so that the linker makes few threads. */
static void use_few_processors(void) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return; /* more than 1,024 of them */
  const int start = sched_getcpu() < 0 ? 0 : sched_getcpu();
  cpu_set_t few;
  CPU_ZERO(&few);
  for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&few) < PROCESSORS_MAX; i++) {
    const size_t processor = ((size_t)start + i) % CPU_SETSIZE;
    if (CPU_ISSET(processor, &allowed)) CPU_SET(processor, &few);
  }
  (void)sched_setaffinity(0, sizeof few, &few);
}

static bool drop_user(void) {
  const bool is_root = geteuid() == 0;
  for (int capability = 0; is_root && capability <= 63; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) return false;
  }
  if (is_root && (syscall(SYS_setgroups, 0, NULL) != 0 ||
                  syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) != 0 ||
                  syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) != 0)) {
    return false;
  }
  /* In a user namespace the user has capabilities without being root. */
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  return syscall(SYS_capset, &header, none) == 0 &&
         prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
         /* A change of the user has undone what was said before: prctl(2). */
         prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

/*
 * Whether who started us is there: one that ended before we asked for its death's signal sends none.
 * Its number says nothing, in a namespace of process ids.
 */
static bool has_parent(const struct launcher_room *room) {
  struct pollfd parent = {.fd = room->parent};
  if (poll(&parent, 1, 0) != 0) return false;
  return close(room->parent) == 0;
}

/* What computing on threads and writing files takes; the rest answers as if it did not exist. */
static const int ALLOWED[] = {
    SYS_read, SYS_write, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close, SYS_openat,
    SYS_fstat, SYS_newfstatat, SYS_statx, SYS_faccessat, SYS_readlinkat, SYS_getcwd,
    SYS_ftruncate, SYS_fallocate, SYS_unlinkat, SYS_renameat2, SYS_fcntl, SYS_getdents64,
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_msync, SYS_futex,
    SYS_set_robust_list, SYS_rseq, SYS_exit, SYS_exit_group, SYS_sched_yield,
    SYS_sched_getaffinity, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sigaltstack, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_getuid, SYS_geteuid, SYS_getgid,
    SYS_getegid, SYS_uname, SYS_sysinfo, SYS_getrandom, SYS_clock_gettime, SYS_clock_nanosleep,
    SYS_nanosleep, SYS_gettimeofday, SYS_getrusage, SYS_prlimit64, SYS_membarrier,
#if defined(__x86_64__)
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink, SYS_rename, SYS_time,
    SYS_arch_prctl, SYS_getrlimit,
#else
    SYS_renameat,
#endif
};

#define ALLOWED_COUNT (sizeof ALLOWED / sizeof ALLOWED[0])
static_assert(ALLOWED_COUNT < 256, "a jump of the filter reaches 255 instructions");
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

static bool filter_calls(void) {
  struct sock_filter code[ALLOWED_COUNT + 16];
  size_t n = 0;
  code[n++] = (struct sock_filter)LOAD(arch);
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LAUNCHER_ARCH, 1, 0);
  code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter)LOAD(nr);
  /* A new thread is fine, a new process is not. clone3 hides which: glibc then uses clone. */
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
  code[n++] = (struct sock_filter)LOAD(args[0]); /* the low half: both machines are little-endian */
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1);
  code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
  code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EPERM);
  for (size_t i = 0; i < ALLOWED_COUNT; i++) {
    const unsigned left = (unsigned)(ALLOWED_COUNT - i); /* to the last instruction but one */
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ALLOWED[i],
                                             (unsigned char)left, 0);
  }
  code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | ENOSYS);
  code[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
  const struct sock_fprog program = {(unsigned short)n, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int launcher_lock_in(const struct launcher_room *room) {
  use_few_processors();
  const char *failed = NULL;
  if (!set_limits(room)) failed = "limits";
  else if (!drop_user()) failed = "user";
  else if (!has_parent(room)) failed = "parent";
  else if (!filter_calls()) failed = "system call filter";
  if (failed == NULL) return LAUNCHER_OK;
  launcher_say("cannot confine the compiler: its %s: %s", failed, strerror(errno));
  return LAUNCHER_CANNOT;
}
