// Mounts, roots and name spaces of the agent itself.
#include "sys.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

static SYS_FUNCTION(sys_mount) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *source = args_text_or_null(&a), *target = args_text(&a);
  const char *type = args_text_or_null(&a);
  uint32_t flags = (uint32_t)args_int64(&a);
  const char *data = args_text_or_null(&a);
  return args_answer(&a, a.failed ? -1 : mount(source, target, type, flags, data));
}

static SYS_FUNCTION(sys_umount) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *target = args_text(&a);
  int flags = args_int(&a);
  return args_answer(&a, a.failed ? -1 : umount2(target, flags));
}

static SYS_FUNCTION(sys_chroot) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  return args_answer(&a, a.failed ? -1 : chroot(path));
}

static SYS_FUNCTION(sys_chdir) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a);
  return args_answer(&a, a.failed ? -1 : chdir(path));
}

static SYS_FUNCTION(sys_unshare) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int flags = args_int(&a);
  return args_answer(&a, a.failed ? -1 : unshare(flags));
}

static SYS_FUNCTION(sys_setns) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a), type = args_int(&a);
  return args_answer(&a, a.failed ? -1 : setns(fd, type));
}

// What was behind a disk has changed: no page of the old content may be served any more.
static SYS_FUNCTION(sys_flush_disk) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  return args_answer(&a, a.failed ? -1 : ioctl(fd, BLKFLSBUF, 0));
}

const JSCFunctionListEntry sys_mounts[] = {
    SYS_ENTRY("mount", 5, sys_mount),   SYS_ENTRY("umount", 2, sys_umount),
    SYS_ENTRY("chroot", 1, sys_chroot), SYS_ENTRY("chdir", 1, sys_chdir),
    SYS_ENTRY("unshare", 1, sys_unshare), SYS_ENTRY("setns", 2, sys_setns),
    SYS_ENTRY("flushDisk", 1, sys_flush_disk),
};
const int sys_mounts_count = sizeof sys_mounts / sizeof sys_mounts[0];
