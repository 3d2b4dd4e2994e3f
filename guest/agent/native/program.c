// The agent as a process: its arguments, its environment, its end.
#include "sys.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int argument_count;
static char **arguments;

void program_arguments(int argc, char **argv) {
  argument_count = argc;
  arguments = argv;
}

static SYS_FUNCTION(sys_args) {
  SYS_UNUSED;
  JSValue list = JS_NewArray(ctx);
  for (int i = 0; i < argument_count; i++) {
    JS_SetPropertyUint32(ctx, list, (uint32_t)i, JS_NewString(ctx, arguments[i]));
  }
  return list;
}

static SYS_FUNCTION(sys_getenv) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *name = args_text(&a);
  if (a.failed) return args_answer(&a, -1);
  const char *value = getenv(name);
  args_free(&a);
  return value ? JS_NewString(ctx, value) : JS_NULL;
}

static SYS_FUNCTION(sys_getpid) {
  SYS_UNUSED;
  return JS_NewInt32(ctx, getpid());
}

static SYS_FUNCTION(sys_exit) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int status = args_int(&a);
  if (!a.failed && getpid() != 1) _exit(status);
  errno = EPERM;
  return args_answer(&a, -1);
}

static SYS_FUNCTION(sys_print_error) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  const char *text = args_text(&a);
  return args_answer(&a, a.failed ? -1 : write(2, text, strlen(text)));
}

static SYS_FUNCTION(sys_heap_bytes) {
  JSMemoryUsage usage;
  SYS_UNUSED;
  JS_ComputeMemoryUsage(JS_GetRuntime(ctx), &usage);
  return JS_NewInt64(ctx, usage.malloc_size);
}

static SYS_FUNCTION(sys_collect_garbage) {
  SYS_UNUSED;
  JS_RunGC(JS_GetRuntime(ctx));
  malloc_trim(HEAP_SPARE_BYTES);
  return JS_NewInt32(ctx, 0);
}

const JSCFunctionListEntry sys_program[] = {
    SYS_ENTRY("args", 0, sys_args),
    SYS_ENTRY("getenv", 1, sys_getenv),
    SYS_ENTRY("getpid", 0, sys_getpid),
    SYS_ENTRY("exit", 1, sys_exit),
    SYS_ENTRY("printError", 1, sys_print_error),
    SYS_ENTRY("heapBytes", 0, sys_heap_bytes),
    SYS_ENTRY("collectGarbage", 0, sys_collect_garbage),
};
const int sys_program_count = sizeof sys_program / sizeof sys_program[0];
