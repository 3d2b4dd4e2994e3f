/*
 * `vmm`: takes rights from this process, puts it where it belongs, and becomes the program named: a
 * VMM, or a helper of one. It stays the same process all along.
 *
 *     quasaur-host-launcher vmm --directory=DIR --log=FILE [--uid=N --gid=N] [--kvm] [--taps=N]
 *                               [--cgroup=PATH] [--keep=CAPABILITY,...|all] [--die-with-parent]
 *                               [--oom-score-adj=N] [--small-pages] [--env=NAME=VALUE]...
 *                               -- PROGRAM [ARGUMENT]...
 *
 * The program gets an empty standard input, FILE as both outputs, and its taps as descriptors 10 and
 * following; nothing else is open.
 */
#define _GNU_SOURCE
#include "launcher.h"
#include "taps.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENVIRONMENT_MAX 32
#define ID_MAX 4294967294u
#define ALL_CAPABILITIES (~0ull) /* for a program that mounts and enters namespaces by itself */
#define KVM_DEVICE "/dev/kvm"

static char PATH_ENTRY[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const struct {
  const char *name;
  int number;
} CAPABILITIES[] = {
    {"chown", CAP_CHOWN},           {"dac_override", CAP_DAC_OVERRIDE},
    {"fowner", CAP_FOWNER},         {"dac_read_search", CAP_DAC_READ_SEARCH},
    {"fsetid", CAP_FSETID},         {"mknod", CAP_MKNOD},
    {"setfcap", CAP_SETFCAP},       {"setgid", CAP_SETGID},
    {"setpcap", CAP_SETPCAP},       {"setuid", CAP_SETUID},
    {"sys_chroot", CAP_SYS_CHROOT},
};

struct vmm {
  const char *directory;
  const char *log;
  const char *cgroup;
  const char *oom_score;
  bool has_uid;
  bool has_gid;
  bool wants_kvm;
  bool has_network; /* of its own */
  bool dies_with_parent;
  bool has_small_pages; /* where the kernel would join them to huge ones by itself */
  uint64_t uid;
  uint64_t gid;
  uint64_t taps;
  uint64_t kept;
  char *environment[ENVIRONMENT_MAX + 2];
  char **command;
  int log_fd;
};

static bool parse_capabilities(const char *text, uint64_t *mask) {
  if (strcmp(text, "all") == 0) {
    *mask = ALL_CAPABILITIES;
    return true;
  }
  while (*text != '\0') {
    const size_t length = strcspn(text, ",");
    bool known = false;
    for (size_t i = 0; i < sizeof CAPABILITIES / sizeof CAPABILITIES[0]; i++) {
      if (strlen(CAPABILITIES[i].name) != length) continue;
      if (strncmp(CAPABILITIES[i].name, text, length) != 0) continue;
      *mask |= 1ull << CAPABILITIES[i].number;
      known = true;
    }
    if (!known) return false;
    text += length;
    if (*text == ',') text++;
  }
  return true;
}

static bool is_score(const char *text) {
  uint64_t number = 0;
  return host_parse_number(text[0] == '-' ? text + 1 : text, 1000, &number);
}

static bool add_environment(struct vmm *vmm, char *entry) {
  if (strchr(entry, '=') == NULL || entry[0] == '=') return false;
  for (size_t i = 1; i <= ENVIRONMENT_MAX; i++) {
    if (vmm->environment[i] != NULL) continue;
    vmm->environment[i] = entry;
    return true;
  }
  return false;
}

/* The value of an option of that name; NULL for another option. */
static char *value_of(char *argument, const char *name) {
  const size_t length = strlen(name);
  return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

static bool parse_option(struct vmm *vmm, char *argument) {
  char *value = NULL;
  if (strcmp(argument, "--kvm") == 0) return vmm->wants_kvm = true;
  if (strcmp(argument, "--die-with-parent") == 0) return vmm->dies_with_parent = true;
  if (strcmp(argument, "--small-pages") == 0) return vmm->has_small_pages = true;
  if ((value = value_of(argument, "--directory=")) != NULL) {
    vmm->directory = value;
    return value[0] == '/';
  }
  if ((value = value_of(argument, "--log=")) != NULL) {
    vmm->log = value;
    return value[0] == '/';
  }
  if ((value = value_of(argument, "--cgroup=")) != NULL) {
    vmm->cgroup = value;
    return host_is_plain_path(value);
  }
  if ((value = value_of(argument, "--uid=")) != NULL) {
    return vmm->has_uid = host_parse_number(value, ID_MAX, &vmm->uid);
  }
  if ((value = value_of(argument, "--gid=")) != NULL) {
    return vmm->has_gid = host_parse_number(value, ID_MAX, &vmm->gid);
  }
  if ((value = value_of(argument, "--taps=")) != NULL) {
    return vmm->has_network = host_parse_number(value, TAPS_MAX, &vmm->taps);
  }
  if ((value = value_of(argument, "--keep=")) != NULL) {
    return parse_capabilities(value, &vmm->kept);
  }
  if ((value = value_of(argument, "--oom-score-adj=")) != NULL) {
    vmm->oom_score = value;
    return is_score(value);
  }
  if ((value = value_of(argument, "--env=")) != NULL) return add_environment(vmm, value);
  return false;
}

static int parse(struct vmm *vmm, int argc, char **argv) {
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
    if (!parse_option(vmm, argv[i])) {
      return host_fail(CODE_INVALID_ARGUMENT, "wrong argument \"%.200s\"", argv[i]);
    }
  }
  if (i + 1 >= argc || vmm->directory == NULL || vmm->log == NULL) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected --directory, --log and a program");
  }
  if (vmm->has_uid != vmm->has_gid || (vmm->has_uid && vmm->kept != 0)) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected --uid with --gid, and without --keep");
  }
  vmm->environment[0] = PATH_ENTRY;
  vmm->command = argv + i + 1;
  return 0;
}

static int set_limits(const struct vmm *vmm) {
  const struct rlimit none = {0, 0};
  struct rlimit files;
  if (setrlimit(RLIMIT_CORE, &none) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0) {
    return host_fail_errno("cannot forbid core files");
  }
  files.rlim_cur = files.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) return host_fail_errno("cannot raise open files");
  /* To be killed sooner is always allowed; later only where this host allows it. */
  if (vmm->oom_score != NULL) (void)host_write_file("/proc/self/oom_score_adj", vmm->oom_score);
  return 0;
}

/* The group that may open /dev/kvm, where it is one that may; the program's own group otherwise. */
static gid_t kvm_group(const struct vmm *vmm) {
  struct stat status;
  const mode_t both = S_IRGRP | S_IWGRP;
  if (!vmm->wants_kvm || stat(KVM_DEVICE, &status) != 0) return (gid_t)vmm->gid;
  return (status.st_mode & both) == both && status.st_gid != 0 ? status.st_gid : (gid_t)vmm->gid;
}

static int change_user(const struct vmm *vmm) {
  if (!vmm->has_uid) return 0;
  const gid_t group = kvm_group(vmm);
  const gid_t gid = (gid_t)vmm->gid;
  const uid_t uid = (uid_t)vmm->uid;
  if (setgroups(group == gid ? 0 : 1, &group) != 0 || setresgid(gid, gid, gid) != 0 ||
      setresuid(uid, uid, uid) != 0) {
    return host_fail_errno("cannot become user %u, group %u", uid, gid);
  }
  return 0;
}

/*
 * Opens the log while there is still the right to, above the descriptors of taps. What somebody else
 * put there could be anything: it is a plain file, or nothing.
 */
static int open_log(struct vmm *vmm) {
  const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  const int log = open(vmm->log, flags, 0600);
  if (log < 0) return host_fail_errno("cannot open the log \"%.500s\"", vmm->log);
  struct stat status;
  if (fstat(log, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1) {
    return host_fail(CODE_FAILED_PRECONDITION,
                     "cannot open the log \"%.500s\": it is no plain file with one name", vmm->log);
  }
  vmm->log_fd = fcntl(log, F_DUPFD_CLOEXEC, TAP_FIRST_FD + TAPS_MAX);
  (void)close(log);
  return vmm->log_fd < 0 ? host_fail_errno("cannot keep the log open") : 0;
}

/* The last steps: nothing may be said on standard output and error after them but by the program. */
static int become(const struct vmm *vmm) {
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0) return host_fail_errno("cannot open /dev/null");
  (void)close(null);
  /* Where failures are told is closed when the program begins: that says that it has. */
  host_error_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, TAP_FIRST_FD + TAPS_MAX);
  if (host_error_fd < 0) return host_fail_errno("cannot keep standard error");
  if (!host_say_started()) return host_fail_errno("cannot tell that it has started");
  if (dup2(vmm->log_fd, STDOUT_FILENO) < 0 || dup2(vmm->log_fd, STDERR_FILENO) < 0) {
    return host_fail_errno("cannot write to the log \"%.500s\"", vmm->log);
  }
  if (close_range(3, TAP_FIRST_FD - 1, 0) != 0 ||
      close_range(TAP_FIRST_FD + (unsigned)vmm->taps, ~0u, CLOSE_RANGE_CLOEXEC) != 0) {
    return host_fail_errno("cannot close descriptors");
  }
  /* A program with all rights makes files for containers, which have a mask of their own. */
  (void)umask(vmm->kept == ALL_CAPABILITIES ? S_IWGRP | S_IWOTH : S_IRWXO);
  (void)execve(vmm->command[0], vmm->command, (char *const *)vmm->environment);
  return host_fail_errno("cannot execute \"%.500s\"", vmm->command[0]);
}

/*
 * Enters an empty network namespace. Who has no right to make one may own one in a user namespace,
 * which gives no right outside of it; where taps are wanted that would lead nowhere.
 */
static bool leave_network(const struct vmm *vmm) {
  if (unshare(CLONE_NEWNET) == 0) return true;
  if (errno != EPERM || vmm->taps != 0 || vmm->has_uid) return false;
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) return true;
  errno = EPERM;
  return false;
}

int host_vmm(int argc, char **argv) {
  struct vmm vmm = {0};
  int status = parse(&vmm, argc, argv);
  if (status != 0) return status;
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return host_fail_errno("cannot close files");
  if ((status = host_check_program(vmm.command[0])) != 0) return status;
  (void)setsid(); /* fails only where it leads a session already */
  if ((status = set_limits(&vmm)) != 0) return status;
  if (vmm.cgroup != NULL && (status = host_join_cgroup(vmm.cgroup, getpid())) != 0) return status;
  if (vmm.has_network) {
    if (!leave_network(&vmm)) {
      return host_fail_errno("cannot make a network namespace: expected CAP_SYS_ADMIN");
    }
    if ((status = host_open_taps((unsigned)vmm.taps)) != 0) return status;
  }
  if (chdir(vmm.directory) != 0) return host_fail_errno("cannot enter \"%.500s\"", vmm.directory);
  if (vmm.dies_with_parent && host_die_with_parent() != 0) {
    return host_fail_errno("cannot watch the process that started this");
  }
  /* A kernel that cannot has no huge pages, or uses more memory: no reason to fail. */
  if (vmm.has_small_pages) (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  if ((status = open_log(&vmm)) != 0) return status;
  if (host_bound_capabilities(vmm.kept) != 0) return host_fail_errno("cannot drop capabilities");
  if ((status = change_user(&vmm)) != 0) return status;
  if (host_keep_capabilities(vmm.kept) != 0) return host_fail_errno("cannot drop capabilities");
  return become(&vmm);
}
