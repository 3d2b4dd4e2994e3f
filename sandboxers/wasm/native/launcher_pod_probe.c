/*
 * Stands in for the runtime of a pod in launcher_pod_test.ts: tries what such a process must not be
 * able to do, and prints for each attempt its name and 0, or the error number.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern char **environ;

static void tell(const char *name, long result) {
  printf("%s %d\n", name, result < 0 ? errno : 0);
}

static long open_path(const char *path, int flags) {
  const int fd = open(path, flags | O_CLOEXEC, 0600);
  if (fd >= 0) (void)close(fd);
  return fd;
}

static void try_files(void) {
  tell("read-passwd", open_path("/etc/passwd", O_RDONLY));
  tell("read-above", open_path("/../../../../etc/passwd", O_RDONLY));
  tell("read-core-pattern", open_path("/proc/sys/kernel/core_pattern", O_RDONLY));
  tell("read-init", open_path("/proc/1/status", O_RDONLY));
  tell("read-init-root", open_path("/proc/1/root/etc/passwd", O_RDONLY));
  tell("write-root", open_path("/here", O_WRONLY | O_CREAT));
  tell("write-library", open_path("/usr/lib/here", O_WRONLY | O_CREAT));
  tell("make-device", mknod("/dev/here", S_IFBLK | 0600, 0));
  tell("write-null", open_path("/dev/null", O_WRONLY));
  tell("read-self", open_path("/proc/self/status", O_RDONLY));
}

static void try_processes(void) {
  const struct iovec none = {NULL, 0};
  tell("kill-init", kill(1, 0));
  tell("kill-parent", kill(getppid(), 0));
  tell("kill-group", kill(0, 0));
  tell("kill-self", kill(getpid(), 0));
  tell("tgkill-init", syscall(SYS_tgkill, 1, 1, 0));
  tell("pidfd-init", syscall(SYS_pidfd_open, 1, 0));
  tell("trace-init", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
  tell("trace-me", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
  tell("read-memory", process_vm_readv(1, &none, 1, &none, 1, 0));
}

static void try_kernel(void) {
  tell("mount", mount("none", "/proc", "tmpfs", 0, NULL));
  tell("unmount", umount2("/proc", MNT_DETACH));
  tell("mount-by-parts", syscall(SYS_fsopen, "tmpfs", 0));
  tell("copy-mounts", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
  tell("new-mounts", unshare(CLONE_NEWNS));
  tell("new-network", unshare(CLONE_NEWNET));
  tell("own-directory", unshare(CLONE_FS));
  tell("change-root", chroot("/usr"));
  tell("handle", syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0));
  tell("bpf", syscall(SYS_bpf, 0, NULL, 0));
  tell("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
  tell("io-uring", syscall(SYS_io_uring_setup, 1, NULL));
  tell("userfaultfd", syscall(SYS_userfaultfd, 0));
  tell("keys", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  tell("load-module", syscall(SYS_init_module, NULL, 0, ""));
  tell("host-name", sethostname("x", 1));
#if defined(__x86_64__)
  tell("other-numbers", syscall(0x40000000 + SYS_getpid));
#endif
}

int main(int argc, char **argv) {
  try_files();
  try_processes();
  try_kernel();
  printf("pid %d\nname %s\narguments %d\n", (int)getpid(), argv[0], argc - 1);
  for (char **entry = environ; *entry != NULL; entry++) printf("environment %s\n", *entry);
  for (int fd = 0; fd < 1024; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) printf("descriptor %d\n", fd);
  }
  return 0;
}
