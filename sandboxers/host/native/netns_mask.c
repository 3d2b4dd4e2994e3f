/*
 * `netns-mask`: becomes a program that sees nothing below /proc/sys/net.
 *
 *     quasaur-host-launcher netns-mask -- PROGRAM ARGS...
 *
 * runsc takes the network namespace that it is in for the host's where it finds
 * /proc/sys/net/core/rmem_default, which Linux shows in every network namespace since 6.9, and then
 * refuses to work. The mask is a mount in a namespace of the program's own, seen by nobody else. It
 * covers all of net: what is below has entries of its own for each network namespace, and the program
 * changes to another one.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

extern char **environ;

#define MASKED "/proc/sys/net"

int host_netns_mask(int argc, char **argv) {
  if (argc < 3 || strcmp(argv[1], "--") != 0 || argv[2][0] != '/') {
    return host_fail(CODE_INVALID_ARGUMENT, "expected: netns-mask -- PROGRAM ARGS...");
  }
  const int refusal = host_check_own_program(argv[2]);
  if (refusal != 0) return refusal;
  if (unshare(CLONE_NEWNS) != 0) return host_fail_errno("cannot make a mount namespace");
  /* Nothing goes out; what is unmounted outside must not stay in use here. */
  if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) != 0) {
    return host_fail_errno("cannot part from the mounts of the host");
  }
  const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount("none", MASKED, "tmpfs", flags, "size=4k,nr_inodes=2,mode=555") != 0) {
    return host_fail_errno("cannot hide \"" MASKED "\"");
  }
  (void)execve(argv[2], argv + 2, environ);
  return host_fail_errno("cannot execute \"%.500s\"", argv[2]);
}
