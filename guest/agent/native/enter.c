// Starts a process inside of a running container, as `crun exec` would, without another program in
// between: the child is cloned into the container's cgroup and pid name space, enters the others by
// itself, takes on the wanted rights and executes. It shares no memory with the agent, and cannot
// be looked into by the container before it has executed.
//
// The order of the steps is that of crun (exec_process_entrypoint), and for its reasons: what needs
// rights comes before they are dropped, the system call filter last where the process cannot gain
// rights, else while it still may set one.
#include "entering.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// ---- in the child ----

void entering_fail(int step) {
  int report[2] = {step, errno ? errno : EIO};
  if (write(REPORT_FD, report, sizeof report) < 0) _exit(126);
  _exit(127);
}

void entering_place(struct entering *entering) {
  int source[5] = {entering->fds[0], entering->fds[1], entering->fds[2], entering->report,
                   entering->given};
  // First all of them go above the places, so that none is overwritten before it was copied.
  for (int i = 0; i < 5; i++) {
    int fd = source[i] >= 0 ? source[i] : open("/dev/null", O_RDWR | O_CLOEXEC);
    source[i] = fcntl(fd, F_DUPFD_CLOEXEC, 5);
    if (source[i] < 0) _exit(126);
  }
  for (int i = 0; i < 5; i++) {
    if (dup3(source[i], i, i < 3 ? 0 : O_CLOEXEC) >= 0) continue;
    // dup3 refuses flags only.
    _exit(126);
  }
  if (syscall(SYS_close_range, 5, ~0u, 0)) entering_fail(STEP_DESCRIPTORS);
}

void entering_reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigset_t none;
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

void entering_set_oom_score(const struct entering *entering) {
  char text[16];
  int length = snprintf(text, sizeof text, "%d", entering->oom_score_adj);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, (size_t)length) != length) entering_fail(STEP_LIMITS);
  close(fd);
}

void entering_set_limits(const struct entering *entering) {
  for (int i = 0; i < entering->limit_count; i++) {
    const int64_t *limit = entering->limits + 3 * i;
    struct rlimit values = {limit[1] < 0 ? RLIM_INFINITY : (rlim_t)limit[1],
                            limit[2] < 0 ? RLIM_INFINITY : (rlim_t)limit[2]};
    if (setrlimit((__rlimit_resource_t)limit[0], &values)) entering_fail(STEP_LIMITS);
  }
}

// A directory of another root must not become the working directory (CVE-2024-21626).
int entering_go_to_cwd(const struct entering *entering) {
  char real[4096];
  if (chdir(entering->cwd)) return 0;
  long length = syscall(SYS_getcwd, real, sizeof real);
  if (length > 0 && real[0] == '/') return 1;
  if (chdir("/") == 0) errno = ENOENT;
  return 0;
}

// The home directory of a user in the container's /etc/passwd; "/" where it is not there.
static void find_home(uid_t uid, char *home, size_t size) {
  char line[1024];
  snprintf(home, size, "HOME=/");
  FILE *file = fopen("/etc/passwd", "re");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    // name:password:uid:gid:comment:home:shell
    char *field[6], *rest = line;
    int count = 0;
    while (count < 6 && (field[count] = strsep(&rest, ":\n"))) count++;
    if (count < 6 || *field[2] < '0' || *field[2] > '9') continue;
    if (strtoul(field[2], NULL, 10) != uid) continue;
    snprintf(home, size, "HOME=%s", *field[5] ? field[5] : "/");
    break;
  }
  fclose(file);
}

static int has_capability(const uint32_t set[2], unsigned capability) {
  return capability < 64 && (set[capability / 32] >> (capability % 32) & 1);
}

void entering_take_rights(const struct entering *entering) {
  const uint32_t(*sets)[2] = entering->capabilities;
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (setgroups((size_t)entering->group_count, entering->groups)) entering_fail(STEP_USER);
  for (unsigned capability = 0; capability < 64; capability++) {
    if (has_capability(sets[SET_BOUNDING], capability)) continue;
    // Those that the kernel does not know are dropped already.
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && errno != EINVAL) {
      entering_fail(STEP_CAPABILITIES);
    }
  }
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)) entering_fail(STEP_CAPABILITIES);
  if (setresgid(entering->gid, entering->gid, entering->gid)) entering_fail(STEP_USER);
  if (setresuid(entering->uid, entering->uid, entering->uid)) entering_fail(STEP_USER);
  // Changing the user has made the process one that can be looked into again.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  for (int i = 0; i < 2; i++) {
    data[i].effective = sets[SET_EFFECTIVE][i];
    data[i].permitted = sets[SET_PERMITTED][i];
    data[i].inheritable = sets[SET_INHERITABLE][i];
  }
  if (syscall(SYS_capset, &head, data)) entering_fail(STEP_CAPABILITIES);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (unsigned capability = 0; capability < 64; capability++) {
    if (!has_capability(sets[SET_AMBIENT], capability)) continue;
    // One that is not permitted and inheritable cannot be: crun and runc pass that over too.
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) && errno != EINVAL &&
        errno != EPERM) {
      entering_fail(STEP_CAPABILITIES);
    }
  }
  if (entering->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
    entering_fail(STEP_CAPABILITIES);
  }
}

void entering_set_filter(const struct entering *entering) {
  if (entering->filter.len == 0) return;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, entering->filter_flags, &entering->filter)) {
    entering_fail(STEP_FILTER);
  }
}

const char *entering_value_of(char **env, const char *name) {
  size_t length = strlen(name);
  for (; *env; env++) {
    if (strncmp(*env, name, length) == 0 && (*env)[length] == '=') return *env + length + 1;
  }
  return NULL;
}

void entering_execute(char **argv, char **env) {
  char candidate[4096];
  int error = ENOENT;
  const char *path = entering_value_of(env, "PATH");
  if (strchr(argv[0], '/')) {
    execve(argv[0], argv, env);
    return;
  }
  while (path && *argv[0]) {
    const char *end = strchrnul(path, ':');
    int length = snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(end - path), path, argv[0]);
    if (end > path && length > 0 && (size_t)length < sizeof candidate) {
      execve(candidate, argv, env);
      if (errno == EACCES) error = EACCES;
      else if (errno != ENOENT && errno != ENOTDIR) return;
    }
    path = *end ? end + 1 : NULL;
  }
  errno = error;
}

void entering_add_home(struct entering *entering) {
  static char home[1100];
  char **end = entering->env;
  if (entering_value_of(entering->env, "HOME")) return;
  while (*end) end++;
  find_home(entering->uid, home, sizeof home);
  *end = home;
}

void entering_give_pipes(const struct entering *entering) {
  for (int fd = 0; fd < 3; fd++) {
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISFIFO(stat.st_mode) &&
        fchown(fd, entering->uid, entering->gid)) {
      // The process keeps the descriptor; it just cannot open it anew.
    }
  }
}

static void run_child(struct entering *entering) {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  entering_place(entering);
  entering_reset_signals();
  entering_set_oom_score(entering);
  entering_set_limits(entering);
  if (setns(GIVEN_FD, CLONE_NEWNS | CLONE_NEWCGROUP)) entering_fail(STEP_NAMESPACES);
  close(GIVEN_FD);
  if (setsid() < 0) entering_fail(STEP_NAMESPACES);
  // What the user may not enter, root perhaps may; and the other way round (network file systems).
  int has_cwd = entering_go_to_cwd(entering);
  entering_add_home(entering);
  entering_give_pipes(entering);
  if (!entering->no_new_privileges) entering_set_filter(entering);
  entering_take_rights(entering);
  if (!has_cwd && !entering_go_to_cwd(entering)) entering_fail(STEP_CWD);
  umask(entering->umask);
  if (entering->no_new_privileges) entering_set_filter(entering);
  entering_execute(entering->argv, entering->env);
  entering_fail(STEP_EXECUTE);
}

// ---- in the agent ----

static long start(struct entering *entering) {
  struct clone_args arguments = {
      .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)entering->cgroup};
  int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  if (own < 0) return -1;
  long pid = setns(entering->given, CLONE_NEWPID);
  if (pid == 0) {
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) run_child(entering);
    int error = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    setns(own, CLONE_NEWPID);
    errno = error;
  }
  int error = errno;
  close(own);
  errno = error;
  return pid;
}

JSValue entering_field(JSContext *ctx, JSValueConst object, const char *name) {
  return JS_GetPropertyStr(ctx, object, name);
}

int64_t entering_number(JSContext *ctx, JSValueConst object, const char *name, int *failed) {
  int64_t number = 0;
  JSValue value = entering_field(ctx, object, name);
  if (!JS_IsNumber(value) || JS_ToInt64(ctx, &number, value)) {
    if (!*failed) JS_ThrowTypeError(ctx, "%s is not a number", name);
    *failed = 1;
  }
  JS_FreeValue(ctx, value);
  return number;
}

int entering_list(JSContext *ctx, JSValueConst object, const char *name, int64_t *into,
                      int capacity, int *failed) {
  int64_t length = 0;
  JSValue list = entering_field(ctx, object, name);
  JSValue length_value = JS_GetPropertyStr(ctx, list, "length");
  if (JS_ToInt64(ctx, &length, length_value) || length < 0 || length > capacity) {
    if (!*failed && !JS_HasException(ctx)) JS_ThrowRangeError(ctx, "%s is too long", name);
    *failed = 1;
    length = 0;
  }
  JS_FreeValue(ctx, length_value);
  for (int64_t i = 0; i < length; i++) {
    JSValue value = JS_GetPropertyUint32(ctx, list, (uint32_t)i);
    if (JS_ToInt64(ctx, &into[i], value)) *failed = 1;
    JS_FreeValue(ctx, value);
  }
  JS_FreeValue(ctx, list);
  return (int)length;
}

static char **text_field(JSContext *ctx, JSValueConst object, const char *name) {
  JSValue list = entering_field(ctx, object, name);
  char **texts = text_list(ctx, list);
  JS_FreeValue(ctx, list);
  return texts;
}

// The environment with room for one more variable.
static char **env_field(JSContext *ctx, JSValueConst object) {
  char **env = text_field(ctx, object, "env"), **roomy;
  size_t count = 0;
  if (!env) return NULL;
  while (env[count]) count++;
  roomy = realloc(env, (count + 2) * sizeof *env);
  if (!roomy) {
    text_list_free(env);
    JS_ThrowOutOfMemory(ctx);
    return NULL;
  }
  roomy[count + 1] = NULL;
  return roomy;
}

static void filter_field(JSContext *ctx, JSValueConst object, struct entering *entering,
                         int *failed) {
  JSValue value = entering_field(ctx, object, "filter");
  if (!JS_IsNull(value)) {
    size_t size = 0;
    uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, value);
    if (!bytes || size == 0 || size > FILTER_BYTES_MAX || size % sizeof(struct sock_filter)) {
      if (!*failed && !JS_HasException(ctx)) JS_ThrowRangeError(ctx, "filter has a wrong size");
      *failed = 1;
    } else {
      // The buffer is the caller's and lives until this call returns; the child has a copy.
      entering->filter.filter = (struct sock_filter *)(void *)bytes;
      entering->filter.len = (unsigned short)(size / sizeof(struct sock_filter));
    }
  }
  JS_FreeValue(ctx, value);
}

static void number_fields(JSContext *ctx, JSValueConst object, struct entering *entering,
                          int *failed) {
  int64_t numbers[GROUPS_MAX];
  entering->cgroup = (int)entering_number(ctx, object, "cgroup", failed);
  entering->uid = (uid_t)entering_number(ctx, object, "uid", failed);
  entering->gid = (gid_t)entering_number(ctx, object, "gid", failed);
  entering->umask = (mode_t)entering_number(ctx, object, "umask", failed);
  entering->oom_score_adj = (int)entering_number(ctx, object, "oomScoreAdj", failed);
  entering->no_new_privileges = (int)entering_number(ctx, object, "noNewPrivileges", failed);
  entering->filter_flags = (unsigned)entering_number(ctx, object, "filterFlags", failed);
  entering->group_count = entering_list(ctx, object, "groups", numbers, GROUPS_MAX, failed);
  for (int i = 0; i < entering->group_count; i++) entering->groups[i] = (gid_t)numbers[i];
  entering->limit_count =
      entering_list(ctx, object, "limits", entering->limits, LIMITS_MAX * 3, failed) / 3;
  int fd_count = entering_list(ctx, object, "fds", numbers, 3, failed);
  for (int i = 0; i < 3; i++) entering->fds[i] = i < fd_count ? (int)numbers[i] : -1;
  int set_count = entering_list(ctx, object, "capabilities", numbers, SETS * 2, failed);
  if (set_count != SETS * 2 && !*failed) {
    JS_ThrowRangeError(ctx, "capabilities are %d numbers", SETS * 2);
    *failed = 1;
  }
  for (int i = 0; i < SETS * 2 && !*failed; i++) {
    entering->capabilities[i / 2][i % 2] = (uint32_t)numbers[i];
  }
}

struct entering *entering_read(JSContext *ctx, JSValueConst object) {
  struct entering *entering = calloc(1, sizeof *entering);
  int failed = 0;
  if (!entering) {
    JS_ThrowOutOfMemory(ctx);
    return NULL;
  }
  JSValue cwd = entering_field(ctx, object, "cwd");
  number_fields(ctx, object, entering, &failed);
  filter_field(ctx, object, entering, &failed);
  if (!failed) entering->cwd = JS_ToCString(ctx, cwd);
  if (entering->cwd) entering->argv = text_field(ctx, object, "args");
  if (entering->argv) entering->env = env_field(ctx, object);
  JS_FreeValue(ctx, cwd);
  if (entering->env) return entering;
  entering_free(ctx, entering);
  return NULL;
}

void entering_free(JSContext *ctx, struct entering *entering) {
  if (!entering) return;
  if (entering->cwd) JS_FreeCString(ctx, entering->cwd);
  text_list_free(entering->argv);
  text_list_free(entering->env);
  free(entering);
}

static SYS_FUNCTION(sys_enter) {
  SYS_UNUSED;
  JSValueConst object = argc > 0 ? argv[0] : JS_UNDEFINED;
  int failed = 0, ends[2] = {-1, -1};
  long pid = -1;
  struct entering *entering = entering_read(ctx, object);
  if (!entering) return JS_EXCEPTION;
  entering->given = (int)entering_number(ctx, object, "pidfd", &failed);
  errno = EINVAL;
  if (!failed && entering->argv[0] && pipe2(ends, O_CLOEXEC) == 0) {
    entering->report = ends[1];
    pid = start(entering);
    int error = errno;
    close(ends[1]);
    if (pid < 0) close(ends[0]);
    errno = error;
  }
  int error = errno;
  entering_free(ctx, entering);
  if (failed) return JS_EXCEPTION;
  errno = error;
  return pid < 0 ? answer(ctx, -1) : answer_pair(ctx, (int)pid, ends[0]);
}

const JSCFunctionListEntry sys_entering[] = {
    SYS_ENTRY("enter", 1, sys_enter),
};
const int sys_entering_count = sizeof sys_entering / sizeof sys_entering[0];
