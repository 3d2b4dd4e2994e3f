// The agent's main: brings QuickJS up with the module "sys" and nothing else of its library, runs
// the bundle, then the event loop. As PID 1 it never returns, whatever happens: the kernel would
// panic.
#include "sys.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Made by qjsc out of the bundle.
extern const uint8_t agent_bytecode[];
extern const uint32_t agent_bytecode_size;

// Far above what the agent needs, far below what the smallest guest has: a leak or a flood becomes
// an exception that is reported, not the end of the guest.
#define HEAP_BYTES_MAX (40u << 20)
#define STACK_BYTES_MAX (512u << 10)

// The kernel starts PID 1 without them when there is no console. Later descriptors must not get
// these numbers: they would be taken for a child's standard streams.
static void open_standard_streams(void) {
  for (;;) {
    int fd = open("/dev/null", O_RDWR);
    if (fd < 0) break;
    if (fd > 2) {
      close(fd);
      return;
    }
  }
  // No /dev yet: a pipe serves as well, nobody reads or writes it.
  for (;;) {
    int ends[2];
    if (pipe(ends)) return;
    if (ends[0] > 2) close(ends[0]);
    if (ends[1] > 2) {
      close(ends[1]);
      return;
    }
  }
}

static JSContext *make_context(JSRuntime *runtime) {
  JSContext *ctx = JS_NewContextRaw(runtime);
  if (!ctx) return NULL;
  JS_AddIntrinsicBaseObjects(ctx);
  JS_AddIntrinsicDate(ctx);
  JS_AddIntrinsicRegExp(ctx);
  JS_AddIntrinsicJSON(ctx);
  JS_AddIntrinsicMapSet(ctx);
  JS_AddIntrinsicTypedArrays(ctx);
  JS_AddIntrinsicPromise(ctx);
  return ctx;
}

// The bytecode has been copied to the heap; its pages need not count as the agent's memory.
static void forget_bytecode(void) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t start = ((uintptr_t)agent_bytecode + page - 1) & ~(page - 1);
  uintptr_t end = ((uintptr_t)agent_bytecode + agent_bytecode_size) & ~(page - 1);
  if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
}

static void run_bundle(JSContext *ctx) {
  JSValue module =
      JS_ReadObject(ctx, agent_bytecode, agent_bytecode_size, JS_READ_OBJ_BYTECODE);
  if (JS_IsException(module)) {
    loop_report(ctx);
    return;
  }
  forget_bytecode();
  if (JS_ResolveModule(ctx, module) < 0) {
    JS_FreeValue(ctx, module);
    loop_report(ctx);
    return;
  }
  JSValue result = JS_EvalFunction(ctx, module);
  if (JS_IsException(result)) loop_report(ctx);
  JS_FreeValue(ctx, result);
}

int main(int argc, char **argv) {
  open_standard_streams();
  signal(SIGPIPE, SIG_IGN);
  // Free memory goes back to the kernel early: the guest is small, and templates hold what is used.
  // Not so early that the heap's end moves at every request: what the kernel does then takes long
  // where it is emulated.
  mallopt(M_TRIM_THRESHOLD, 4 * HEAP_SPARE_BYTES);
  mallopt(M_TOP_PAD, HEAP_SPARE_BYTES);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  program_arguments(argc, argv);
  JSRuntime *runtime = JS_NewRuntime();
  JSContext *ctx = runtime ? make_context(runtime) : NULL;
  if (ctx && loop_open() == 0) {
    JS_SetMemoryLimit(runtime, HEAP_BYTES_MAX);
    JS_SetMaxStackSize(runtime, STACK_BYTES_MAX);
    loop_track_rejections(runtime);
    if (sys_module(ctx, "sys")) run_bundle(ctx);
    else loop_report(ctx);
    loop_run(ctx);
  }
  static const char text[] = "agent: cannot go on\n";
  if (write(2, text, sizeof text - 1) < 0) { /* nobody to tell */ }
  while (getpid() == 1) pause();
  return 1;
}
