// What belongs to the whole guest: clock, entropy, hostname, kernel modules, power.
#include "sys.h"

#include <fcntl.h>
#include <linux/module.h>
#include <linux/random.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static SYS_FUNCTION(sys_reboot) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int64_t command = args_int64(&a);
  if (a.failed) return args_answer(&a, -1);
  sync();
  return args_answer(&a, reboot((int)(uint32_t)command));
}

static SYS_FUNCTION(sys_sethostname) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *name = args_text(&a);
  return args_answer(&a, a.failed ? -1 : sethostname(name, strlen(name)));
}

static SYS_FUNCTION(sys_clock) {
  struct args a;
  struct timespec now;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int id = args_int(&a);
  if (a.failed || clock_gettime(id, &now)) return args_answer(&a, -1);
  return JS_NewFloat64(ctx, (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6);
}

static SYS_FUNCTION(sys_set_time) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  double time_ms = args_double(&a);
  if (a.failed) return args_answer(&a, -1);
  if (!(time_ms >= 0 && time_ms < 1e15)) {
    errno = EINVAL;
    return args_answer(&a, -1);
  }
  double seconds = floor(time_ms / 1e3);
  struct timespec now = {(time_t)seconds, (long)((time_ms - seconds * 1e3) * 1e6)};
  return args_answer(&a, clock_settime(CLOCK_REALTIME, &now));
}

// Open from the first use on: a clone of a machine that has it open need not look for it.
static int open_random(void) {
  static int fd = -1;
  if (fd < 0) fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  return fd;
}

static SYS_FUNCTION(sys_prepare_entropy) {
  SYS_UNUSED;
  return answer(ctx, open_random() < 0 ? -1 : 0);
}

static SYS_FUNCTION(sys_add_entropy) {
  struct args a;
  size_t length;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  uint8_t *bytes = args_bytes(&a, &length);
  if (a.failed) return args_answer(&a, -1);
  if (length == 0 || length > 4096) {
    errno = EINVAL;
    return args_answer(&a, -1);
  }
  struct rand_pool_info *pool = malloc(sizeof *pool + length);
  if (!pool) return args_answer(&a, -1);
  pool->entropy_count = (int)length * 8;
  pool->buf_size = (int)length;
  memcpy(pool->buf, bytes, length);
  int fd = open_random();
  int result = fd < 0 || ioctl(fd, RNDADDENTROPY, pool) || ioctl(fd, RNDRESEEDCRNG) ? -1 : 0;
  int error = errno;
  explicit_bzero(pool, sizeof *pool + length);
  free(pool);
  errno = error;
  return args_answer(&a, result);
}

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static SYS_FUNCTION(sys_load_module) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *path = args_text(&a), *parameters = args_text(&a);
  if (a.failed) return args_answer(&a, -1);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return args_answer(&a, -1);
  int packed = ends_with(path, ".xz") || ends_with(path, ".zst");
  long result = syscall(SYS_finit_module, fd, parameters,
                        packed ? MODULE_INIT_COMPRESSED_FILE : 0);
  int error = errno;
  close(fd);
  errno = error;
  return args_answer(&a, result);
}

static SYS_FUNCTION(sys_uname) {
  struct utsname name;
  SYS_UNUSED;
  if (uname(&name)) memset(&name, 0, sizeof name);
  JSValue object = JS_NewObject(ctx);
  JS_SetPropertyStr(ctx, object, "system", JS_NewString(ctx, name.sysname));
  JS_SetPropertyStr(ctx, object, "hostname", JS_NewString(ctx, name.nodename));
  JS_SetPropertyStr(ctx, object, "release", JS_NewString(ctx, name.release));
  JS_SetPropertyStr(ctx, object, "version", JS_NewString(ctx, name.version));
  JS_SetPropertyStr(ctx, object, "machine", JS_NewString(ctx, name.machine));
  return object;
}

const JSCFunctionListEntry sys_machine[] = {
    SYS_ENTRY("reboot", 1, sys_reboot),
    SYS_ENTRY("sethostname", 1, sys_sethostname),
    SYS_ENTRY("clock", 1, sys_clock),
    SYS_ENTRY("setTime", 1, sys_set_time),
    SYS_ENTRY("prepareEntropy", 0, sys_prepare_entropy),
    SYS_ENTRY("addEntropy", 3, sys_add_entropy),
    SYS_ENTRY("loadModule", 2, sys_load_module),
    SYS_ENTRY("uname", 0, sys_uname),
};
const int sys_machine_count = sizeof sys_machine / sizeof sys_machine[0];
