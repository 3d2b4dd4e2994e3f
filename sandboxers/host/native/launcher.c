/* main(), and what all verbs use: see launcher.h for what this is and who calls it. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STATUS_BASE 64
#define LINE_BYTES_MAX 2048

int host_error_fd = STDERR_FILENO;

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} VERBS[] = {
    {"vmm", host_vmm},
    {"netns", host_netns},
    {"netns-mask", host_netns_mask},
    {"bounded", host_bounded},
    {"mount", host_mount},
    {"umount", host_umount},
    {"bind", host_bind},
    {"share", host_share},
    {"identity", host_identity},
    {"alive", host_alive},
    {"signal", host_signal},
    {"kill", host_kill},
    {"wait", host_wait},
    {"process-usage", host_process_usage},
    {"cgroup-join", host_cgroup_join},
    {"cgroup-remove", host_cgroup_remove},
    {"cgroup-limits", host_cgroup_limits},
    {"cgroup-usage", host_cgroup_usage},
    {"facts", host_facts},
    {"tsc", host_tsc},
    {"tree-size", host_tree_size},
    {"relay", host_relay},
    {"fifos", host_fifos},
    {"stdio", host_stdio},
    {"mkfifo", host_mkfifo},
    {"terminal", host_terminal},
    {"sentry-exec", host_sentry_exec},
    {"stand-in", host_stand_in},
    {"unpack", host_unpack},
    {"overlay-uses", host_overlay_uses},
};

static const char *name_of(enum host_code code) {
  switch (code) {
    case CODE_INVALID_ARGUMENT: return "InvalidArgument";
    case CODE_DEADLINE_EXCEEDED: return "DeadlineExceeded";
    case CODE_NOT_FOUND: return "NotFound";
    case CODE_ALREADY_EXISTS: return "AlreadyExists";
    case CODE_PERMISSION_DENIED: return "PermissionDenied";
    case CODE_RESOURCE_EXHAUSTED: return "ResourceExhausted";
    case CODE_FAILED_PRECONDITION: return "FailedPrecondition";
    case CODE_INTERNAL: break;
  }
  return "Internal";
}

static enum host_code code_of(int error) {
  switch (error) {
    case ENOENT: case ESRCH: case ENODEV: return CODE_NOT_FOUND;
    case EEXIST: case EADDRINUSE: return CODE_ALREADY_EXISTS;
    case EACCES: case EPERM: return CODE_PERMISSION_DENIED;
    case ENOMEM: case EAGAIN: case EMFILE: case ENFILE: case ENOSPC: case EDQUOT:
      return CODE_RESOURCE_EXHAUSTED;
    case ENOTDIR: case EISDIR: case ELOOP: case EXDEV: case ENAMETOOLONG: case EINVAL:
      return CODE_INVALID_ARGUMENT;
    case ENOEXEC: case EOPNOTSUPP: case ENOSYS: return CODE_FAILED_PRECONDITION;
    default: return CODE_INTERNAL;
  }
}

static int say(enum host_code code, int error, const char *format, va_list arguments) {
  char line[LINE_BYTES_MAX];
  int length = snprintf(line, sizeof line, "%s: ", name_of(code));
  (void)vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
  length = (int)strlen(line);
  if (error != 0) {
    const char *name = strerrorname_np(error);
    (void)snprintf(line + length, sizeof line - (size_t)length, ": %s", name ? name : "errno");
  }
  /* One line, whatever was in a path. */
  for (char *at = line; *at != '\0'; at++) {
    if ((unsigned char)*at < ' ') *at = ' ';
  }
  length = (int)strlen(line);
  line[length < LINE_BYTES_MAX - 1 ? length : LINE_BYTES_MAX - 2] = '\n';
  const ssize_t written = write(host_error_fd, line, (size_t)length + 1);
  (void)written; /* nobody is left to tell */
  return STATUS_BASE + (int)code;
}

int host_fail(enum host_code code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int status = say(code, 0, format, arguments);
  va_end(arguments);
  return status;
}

int host_fail_errno(const char *format, ...) {
  const int error = errno;
  va_list arguments;
  va_start(arguments, format);
  const int status = say(code_of(error), error, format, arguments);
  va_end(arguments);
  return status;
}

bool host_parse_number(const char *text, uint64_t most, uint64_t *number) {
  *number = 0;
  if (*text == '\0') return false;
  for (const char *at = text; *at != '\0'; at++) {
    if (*at < '0' || *at > '9') return false;
    const uint64_t digit = (uint64_t)(*at - '0');
    if (digit > most || *number > (most - digit) / 10) return false;
    *number = *number * 10 + digit;
  }
  return true;
}

bool host_is_plain_path(const char *path) {
  if (path[0] != '/' || strlen(path) >= HOST_PATH_BYTES_MAX) return false;
  for (const char *at = path; at != NULL && at[1] != '\0'; at = strchr(at + 1, '/')) {
    const char *end = strchr(at + 1, '/');
    const size_t length = end == NULL ? strlen(at + 1) : (size_t)(end - at - 1);
    if (length == 0) return false;
    if (at[1] == '.' && (length == 1 || (length == 2 && at[2] == '.'))) return false;
  }
  return true;
}

long host_read_file(const char *path, char *text, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t length = 0;
  while (length < size - 1) {
    const ssize_t got = read(fd, text + length, size - 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      (void)close(fd);
      errno = error;
      return -1;
    }
    if (got == 0) break;
    length += (size_t)got;
  }
  (void)close(fd);
  text[length] = '\0';
  return (long)length;
}

int host_write_file(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t written = write(fd, text, strlen(text));
  const int error = written < 0 ? errno : EIO;
  (void)close(fd);
  if (written == (ssize_t)strlen(text)) return 0;
  errno = error;
  return -1;
}

int host_bound_capabilities(uint64_t mask) {
  for (int capability = 0; capability <= CAPABILITY_LAST; capability++) {
    if ((mask >> capability & 1) != 0 || prctl(PR_CAPBSET_READ, capability, 0, 0, 0) != 1) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    /* An ordinary user may not, and has nothing that could come out of it: see no_new_privs. */
    return errno == EPERM && geteuid() != 0 ? 0 : -1;
  }
  return 0;
}

int host_keep_capabilities(uint64_t mask) {
  if (host_bound_capabilities(mask) != 0) return -1;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct has[2];
  if (syscall(SYS_capget, &header, has) != 0) return -1;
  for (int i = 0; i < 2; i++) {
    const uint32_t kept = (uint32_t)(mask >> (32 * i)) & has[i].permitted;
    has[i] = (struct __user_cap_data_struct){kept, kept, 0};
  }
  header = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, 0};
  if (syscall(SYS_capset, &header, has) != 0) return -1;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

bool host_say_started(void) {
  char line[64];
  (void)snprintf(line, sizeof line, "started %llu\n", (unsigned long long)host_start_time(getpid()));
  return write(STDOUT_FILENO, line, strlen(line)) == (ssize_t)strlen(line);
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  /* Nobody else may write to what it and its programs make: a socket that can be written to is open. */
  (void)umask(umask(0777) | S_IWGRP | S_IWOTH);
  for (size_t i = 0; i < sizeof VERBS / sizeof VERBS[0]; i++) {
    if (strcmp(name, VERBS[i].name) == 0) return VERBS[i].run(argc - 1, argv + 1);
  }
  return host_fail(CODE_INVALID_ARGUMENT,
                   "unknown verb \"%.100s\": the launcher is started by sandboxers, not by people",
                   name);
}
