// Starting, signalling and reaping processes.
#include "sys.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_STACK_BYTES (64 * 1024)
#define CHILD_FDS_MAX 64
#define REAP_MAX 128

enum { SPAWN_SESSION = 1, SPAWN_TERMINAL = 2, SPAWN_DIE_WITH_AGENT = 4 };

struct spawn {
  char **argv, **env;
  const char *cwd;
  int fds[CHILD_FDS_MAX];
  int fd_count, flags, pid_ns;
  sigset_t mask;
  // The child shares the agent's memory until it executes: this is how it tells what failed.
  int error;
};

static const char *path_of(char **env) {
  for (; *env; env++) {
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  }
  return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

// execvpe(3) with PATH of the new environment, without memory of the heap.
static void execute(char **argv, char **env) {
  char candidate[4096];
  int error = ENOENT;
  if (strchr(argv[0], '/')) {
    execve(argv[0], argv, env);
    return;
  }
  for (const char *path = path_of(env);;) {
    const char *end = strchrnul(path, ':');
    int length = snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(end - path), path, argv[0]);
    if (end > path && length > 0 && (size_t)length < sizeof candidate) {
      execve(candidate, argv, env);
      if (errno == EACCES) error = EACCES;
      else if (errno != ENOENT && errno != ENOTDIR) return;
    }
    if (!*end) break;
    path = end + 1;
  }
  errno = error;
}

// Puts the wanted descriptors at 0..n-1. First all of them go above n, so that none is overwritten
// before it was copied.
static int place_fds(struct spawn *spawn) {
  int highest = spawn->fd_count;
  for (int i = 0; i < spawn->fd_count; i++) {
    int fd = spawn->fds[i] >= 0 ? fcntl(spawn->fds[i], F_DUPFD_CLOEXEC, highest)
                                : open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fd < highest) {
      int low = fd;
      fd = fcntl(low, F_DUPFD_CLOEXEC, highest);
      close(low);
    }
    if (fd < 0) return -1;
    spawn->fds[i] = fd;
  }
  for (int i = 0; i < spawn->fd_count; i++) {
    // dup2 leaves the copy open over execve.
    if (dup2(spawn->fds[i], i) < 0) return -1;
  }
  return 0;
}

static int prepare(struct spawn *spawn) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
  if ((spawn->flags & SPAWN_DIE_WITH_AGENT) && prctl(PR_SET_PDEATHSIG, SIGKILL)) return -1;
  if ((spawn->flags & SPAWN_SESSION) && setsid() < 0) return -1;
  if (place_fds(spawn)) return -1;
  if ((spawn->flags & SPAWN_TERMINAL) && ioctl(0, TIOCSCTTY, 0)) return -1;
  if (spawn->cwd && chdir(spawn->cwd)) return -1;
  return sigprocmask(SIG_SETMASK, &spawn->mask, NULL);
}

static int child(void *opaque) {
  struct spawn *spawn = opaque;
  if (prepare(spawn) == 0) execute(spawn->argv, spawn->env);
  spawn->error = errno ? errno : EIO;
  _exit(127);
}

// CLONE_VM and CLONE_VFORK: no page tables are copied, and the agent waits until the child has
// executed. The descriptor table is the child's own.
static int start_child(struct spawn *spawn) {
  sigset_t all;
  int pid, own_ns = -1;
  char *stack = malloc(CHILD_STACK_BYTES);
  if (!stack) return -1;
  if (spawn->pid_ns >= 0) {
    own_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own_ns < 0 || setns(spawn->pid_ns, CLONE_NEWPID)) {
      int error = errno;
      if (own_ns >= 0) close(own_ns);
      free(stack);
      errno = error;
      return -1;
    }
  }
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &spawn->mask);
  sigset_t agent_mask = spawn->mask;
  // The child starts with nothing blocked: SIGCHLD is blocked in the agent for its signalfd only.
  sigemptyset(&spawn->mask);
  pid = clone(child, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, spawn);
  int error = errno;
  sigprocmask(SIG_SETMASK, &agent_mask, NULL);
  if (own_ns >= 0) {
    setns(own_ns, CLONE_NEWPID);
    close(own_ns);
  }
  free(stack);
  if (pid > 0 && spawn->error) {
    waitpid(pid, NULL, 0);
    error = spawn->error;
    pid = -1;
  }
  errno = error;
  return pid;
}

static SYS_FUNCTION(sys_spawn) {
  struct args a;
  struct spawn spawn = {.pid_ns = -1};
  int pid = -1;
  SYS_UNUSED;
  if (argc < 5) return JS_ThrowTypeError(ctx, "too few arguments");
  args_begin(&a, ctx, argc, argv);
  a.next = 2;
  spawn.cwd = args_text_or_null(&a);
  a.next = 4;
  spawn.flags = args_int(&a);
  spawn.pid_ns = args_int_or(&a, -1);
  if (!a.failed) {
    spawn.argv = text_list(ctx, argv[0]);
    spawn.env = spawn.argv ? text_list(ctx, argv[1]) : NULL;
    spawn.fd_count = spawn.env ? int_list(ctx, argv[3], spawn.fds, CHILD_FDS_MAX) : -1;
    a.failed = spawn.fd_count < 0;
  }
  if (!a.failed) {
    errno = EINVAL;
    if (spawn.argv[0]) pid = start_child(&spawn);
  }
  int error = errno;
  text_list_free(spawn.argv);
  text_list_free(spawn.env);
  errno = error;
  return args_answer(&a, pid);
}

// The init of a pod's pid name space. It shares no memory with the agent, keeps no descriptor and
// does nothing but reap.
static void run_name_space_init(void) {
  sigset_t child_signal;
  struct sigaction action = {.sa_handler = SIG_DFL};
  int received;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "pod-init");
  setsid();
  syscall(SYS_close_range, 0, ~0u, 0);
  if (chdir("/")) _exit(1);
  for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  sigprocmask(SIG_SETMASK, &child_signal, NULL);
  for (;;) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    sigwait(&child_signal, &received);
  }
}

static SYS_FUNCTION(sys_spawn_pid_namespace) {
  SYS_UNUSED;
  // A plain fork-like clone: it lives on in a copy of the agent's memory, of which it touches little.
  long pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) run_name_space_init();
  return answer(ctx, pid);
}

static SYS_FUNCTION(sys_kill) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int pid = args_int(&a), number = args_int(&a);
  return args_answer(&a, a.failed ? -1 : kill(pid, number));
}

static SYS_FUNCTION(sys_pidfd_open) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int pid = args_int(&a);
  return args_answer(&a, a.failed ? -1 : syscall(SYS_pidfd_open, pid, 0));
}

static SYS_FUNCTION(sys_pidfd_signal) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), number = args_int(&a);
  return args_answer(&a, a.failed ? -1 : syscall(SYS_pidfd_send_signal, fd, number, NULL, 0));
}

static SYS_FUNCTION(sys_set_subreaper) {
  SYS_UNUSED;
  return answer(ctx, prctl(PR_SET_CHILD_SUBREAPER, 1));
}

static SYS_FUNCTION(sys_child_signal_fd) {
  sigset_t child_signal;
  SYS_UNUSED;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &child_signal, NULL)) return answer(ctx, -1);
  return answer(ctx, signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK));
}

static SYS_FUNCTION(sys_reap) {
  SYS_UNUSED;
  JSValue list = JS_NewArray(ctx);
  uint32_t used = 0;
  for (int i = 0; i < REAP_MAX; i++) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) break;
    int signaled = WIFSIGNALED(status);
    int code = signaled ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    JS_SetPropertyUint32(ctx, list, used++, JS_NewInt32(ctx, pid));
    JS_SetPropertyUint32(ctx, list, used++, JS_NewInt32(ctx, code));
    JS_SetPropertyUint32(ctx, list, used++, JS_NewInt32(ctx, signaled));
  }
  return list;
}

static SYS_FUNCTION(sys_setrlimit) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int resource = args_int(&a);
  int64_t soft = args_int64(&a), hard = args_int64(&a);
  struct rlimit limit = {soft < 0 ? RLIM_INFINITY : (rlim_t)soft,
                         hard < 0 ? RLIM_INFINITY : (rlim_t)hard};
  return args_answer(&a, a.failed ? -1 : setrlimit((__rlimit_resource_t)resource, &limit));
}

const JSCFunctionListEntry sys_processes[] = {
    SYS_ENTRY("spawn", 6, sys_spawn),
    SYS_ENTRY("spawnPidNamespace", 0, sys_spawn_pid_namespace),
    SYS_ENTRY("kill", 2, sys_kill),
    SYS_ENTRY("pidfdOpen", 1, sys_pidfd_open),
    SYS_ENTRY("pidfdSignal", 2, sys_pidfd_signal),
    SYS_ENTRY("setSubreaper", 0, sys_set_subreaper),
    SYS_ENTRY("childSignalFd", 0, sys_child_signal_fd),
    SYS_ENTRY("reap", 0, sys_reap),
    SYS_ENTRY("setrlimit", 3, sys_setrlimit),
};
const int sys_processes_count = sizeof sys_processes / sizeof sys_processes[0];
