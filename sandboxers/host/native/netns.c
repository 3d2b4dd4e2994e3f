/*
 * `netns`: runs ip(8) and tc(8) in network namespaces, one step after the other; each gets its
 * commands on standard input. `sysctl` sets what is below /proc/sys/net: a line for each setting,
 * as `ipv4/ip_forward 1`.
 *
 *     quasaur-host-launcher netns {must|try NAMESPACE ip|tc|sysctl COMMANDS}...
 *
 * After what a step writes comes a NUL. A step that says `try` goes on after a command that failed,
 * and its failure is nobody's.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_MAX 64

static const struct {
  const char *name;
  const char *const paths[4];
} PROGRAMS[] = {
    {"ip", {"/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip", NULL}},
    {"tc", {"/usr/sbin/tc", "/usr/bin/tc", "/sbin/tc", NULL}},
};

struct step {
  bool is_optional;
  const char *netns;
  const char *name;
  const char *program;
  const char *commands;
};

static int parse(char **argv, struct step *step) {
  const bool is_must = strcmp(argv[0], "must") == 0;
  if (!is_must && strcmp(argv[0], "try") != 0) {
    return host_fail(CODE_INVALID_ARGUMENT, "wrong argument \"%.200s\"", argv[0]);
  }
  *step = (struct step){
      .is_optional = !is_must, .netns = argv[1], .name = argv[2], .commands = argv[3]};
  if (argv[1][0] == '/' && strcmp(step->name, "sysctl") == 0) return 0;
  const char *const *paths = NULL;
  for (size_t i = 0; i < sizeof PROGRAMS / sizeof PROGRAMS[0]; i++) {
    if (strcmp(PROGRAMS[i].name, step->name) == 0) paths = PROGRAMS[i].paths;
  }
  if (paths == NULL || argv[1][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "cannot run \"%.200s\" in \"%.200s\"", step->name,
                     step->netns);
  }
  for (size_t i = 0; paths[i] != NULL && step->program == NULL; i++) {
    if (access(paths[i], X_OK) == 0) step->program = paths[i];
  }
  if (step->program != NULL) return 0;
  return host_fail(CODE_FAILED_PRECONDITION,
                   "cannot run \"%s\": not found: install the Debian package iproute2", step->name);
}

/* A descriptor of the namespace, or -1 after it was said why not. */
static int open_netns(const struct step *step, int *status) {
  const int fd = open(step->netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    *status = host_fail_errno("cannot open the network namespace \"%.500s\"", step->netns);
    return -1;
  }
  if (ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET) return fd;
  (void)close(fd);
  *status = host_fail(CODE_INVALID_ARGUMENT, "\"%.500s\" is no network namespace", step->netns);
  return -1;
}

static int commands_file(const struct step *step) {
  const int fd = memfd_create("commands", MFD_CLOEXEC);
  const size_t length = strlen(step->commands);
  if (fd < 0) return -1;
  if (write(fd, step->commands, length) == (ssize_t)length && lseek(fd, 0, SEEK_SET) == 0) return fd;
  (void)close(fd);
  return -1;
}

/* Sets what the lines say. An exit status. */
static int set_all(const struct step *step) {
  char lines[4096];
  if (snprintf(lines, sizeof lines, "%s", step->commands) >= (int)sizeof lines) {
    return host_fail(CODE_INVALID_ARGUMENT, "too many settings");
  }
  char *rest = lines;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (line[0] == '\0') continue;
    char *value = strchr(line, ' ');
    char path[HOST_PATH_BYTES_MAX];
    if (value != NULL) *value++ = '\0';
    (void)snprintf(path, sizeof path, "/proc/sys/net/%.1000s", line);
    if (value == NULL || !host_is_plain_path(path)) {
      return host_fail(CODE_INVALID_ARGUMENT, "wrong setting \"%.200s\"", line);
    }
    if (host_write_file(path, value) != 0) return host_fail_errno("cannot set \"%.500s\"", path);
  }
  return 0;
}

_Noreturn static void become(const struct step *step, int netns, int commands) {
  /* Ends with the launcher, which has one thread. */
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* To name the namespace of another user's process takes the right to look at it. */
  const uint64_t kept = 1ull << CAP_NET_ADMIN | 1ull << CAP_NET_RAW | 1ull << CAP_SYS_PTRACE |
                        1ull << CAP_DAC_READ_SEARCH;
  if (setns(netns, CLONE_NEWNET) != 0) {
    _exit(host_fail_errno("cannot enter the network namespace \"%.500s\"", step->netns));
  }
  if (step->program == NULL) {
    if (step->is_optional) host_error_fd = -1;
    _exit(set_all(step));
  }
  if (dup2(commands, STDIN_FILENO) < 0 || host_keep_capabilities(kept) != 0) {
    _exit(host_fail_errno("cannot confine \"%s\"", step->name));
  }
  char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
  char *careful[] = {(char *)step->name, "-j", "-d", "-batch", "-", NULL};
  char *careless[] = {(char *)step->name, "-j", "-d", "-force", "-batch", "-", NULL};
  (void)execve(step->program, step->is_optional ? careless : careful, environment);
  _exit(host_fail_errno("cannot execute \"%s\"", step->program));
}

static int run(const struct step *step) {
  int status = 0;
  const int netns = open_netns(step, &status);
  if (netns < 0) return step->is_optional ? 0 : status;
  const int commands = commands_file(step);
  const pid_t child = commands < 0 ? -1 : fork();
  if (child == 0) become(step, netns, commands);
  (void)close(netns);
  if (child < 0) return host_fail_errno("cannot start \"%s\"", step->name);
  (void)close(commands);
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return host_fail_errno("cannot wait for \"%s\"", step->name);
  }
  if (step->is_optional || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) return 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) > 64) return WEXITSTATUS(status);
  return host_fail(CODE_FAILED_PRECONDITION, "\"%s\" failed in the network namespace \"%.500s\"",
                   step->name, step->netns);
}

int host_netns(int argc, char **argv) {
  struct step steps[STEPS_MAX];
  const int count = (argc - 1) / 4;
  if (argc < 5 || (argc - 1) % 4 != 0 || count > STEPS_MAX) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected steps of four arguments each, at most %d",
                     STEPS_MAX);
  }
  for (int i = 0; i < count; i++) {
    const int status = parse(argv + 1 + 4 * i, &steps[i]);
    if (status != 0) return status;
  }
  for (int i = 0; i < count; i++) {
    const int status = run(&steps[i]);
    if (status != 0) return status;
    if (write(STDOUT_FILENO, "", 1) != 1) return host_fail_errno("cannot write the answer");
  }
  return 0;
}
