// The event loop: waits with epoll(7), calls into JavaScript, and runs promise jobs in between.
// QuickJS's own loop uses select(2) and aborts at descriptor 1024, so it is not used.
#include "sys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 64
// After so many jobs in a row descriptors get a turn, whatever jobs add.
#define JOBS_MAX 10000
#define REJECTIONS_MAX 64

static int epoll_fd = -1;
static JSValue on_dispatch, on_tick, on_failure;

// How often each descriptor was added. An event carries the number of its time, so that one for a
// descriptor that was closed and opened anew within the same batch is not mistaken.
static uint32_t *generations;
static int generation_count;

static struct rejection {
  JSValue promise, reason;
} rejections[REJECTIONS_MAX];
static int rejection_count;

int loop_open(void) {
  on_dispatch = on_tick = on_failure = JS_UNDEFINED;
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return epoll_fd < 0 ? -1 : 0;
}

static int remember_generation(int fd) {
  if (fd < 0) {
    errno = EBADF;
    return -1;
  }
  if (fd >= generation_count) {
    int larger = (fd | 255) + 1;
    uint32_t *grown = realloc(generations, (size_t)larger * sizeof *grown);
    if (!grown) return -1;
    memset(grown + generation_count, 0, (size_t)(larger - generation_count) * sizeof *grown);
    generations = grown;
    generation_count = larger;
  }
  return 0;
}

static int epoll_change(int operation, int fd, uint32_t events) {
  if (remember_generation(fd)) return -1;
  if (operation != EPOLL_CTL_MOD) generations[fd]++;
  struct epoll_event event = {.events = events,
                              .data.u64 = (uint64_t)generations[fd] << 32 | (uint32_t)fd};
  return epoll_ctl(epoll_fd, operation, fd, &event);
}

static JSValue sys_epoll_change(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv,
                                int operation) {
  struct args a;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  int fd = args_int(&a);
  uint32_t events = operation == EPOLL_CTL_DEL ? 0 : (uint32_t)args_int64(&a);
  return args_answer(&a, a.failed ? -1 : epoll_change(operation, fd, events));
}

static SYS_FUNCTION(sys_set_loop) {
  SYS_UNUSED;
  for (int i = 0; i < 3; i++) {
    if (argc <= i || !JS_IsFunction(ctx, argv[i])) {
      return JS_ThrowTypeError(ctx, "argument %d is not a function", i + 1);
    }
  }
  JSValue *slots[] = {&on_dispatch, &on_tick, &on_failure};
  for (int i = 0; i < 3; i++) {
    JSValue old = *slots[i];
    *slots[i] = JS_DupValue(ctx, argv[i]);
    JS_FreeValue(ctx, old);
  }
  return JS_NewInt32(ctx, 0);
}

static void print(const char *text) {
  // A full or closed console is no reason to stop.
  if (write(2, text, strlen(text)) < 0) return;
}

// Tells of an error, which it takes over. Nothing that happens here may stop the agent.
static void report(JSContext *ctx, JSValue error) {
  JSValue stack = JS_IsError(ctx, error) ? JS_GetPropertyStr(ctx, error, "stack") : JS_UNDEFINED;
  const char *text = JS_ToCString(ctx, error);
  const char *trace = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
  char message[2048];
  snprintf(message, sizeof message, "%s%s%s", text ? text : "an error without text",
           trace && *trace ? "\n" : "", trace ? trace : "");
  if (text) JS_FreeCString(ctx, text);
  if (trace) JS_FreeCString(ctx, trace);
  JS_FreeValue(ctx, stack);
  JS_FreeValue(ctx, error);
  JS_FreeValue(ctx, JS_GetException(ctx));
  print("agent: uncaught: ");
  print(message);
  print("\n");
  if (JS_IsUndefined(on_failure)) return;
  JSValue argument = JS_NewString(ctx, message);
  JSValue result = JS_Call(ctx, on_failure, JS_UNDEFINED, 1, (JSValueConst *)&argument);
  if (JS_IsException(result)) JS_FreeValue(ctx, JS_GetException(ctx));
  JS_FreeValue(ctx, argument);
  JS_FreeValue(ctx, result);
}

void loop_report(JSContext *ctx) {
  report(ctx, JS_GetException(ctx));
}

// A promise that is rejected is an error only if nobody has taken it by the end of the jobs.
static void track_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason,
                            JS_BOOL handled, void *opaque) {
  (void)opaque;
  if (!handled) {
    if (rejection_count == REJECTIONS_MAX) return;
    rejections[rejection_count++] =
        (struct rejection){JS_DupValue(ctx, promise), JS_DupValue(ctx, reason)};
    return;
  }
  for (int i = 0; i < rejection_count; i++) {
    if (JS_VALUE_GET_PTR(rejections[i].promise) != JS_VALUE_GET_PTR(promise)) continue;
    JS_FreeValue(ctx, rejections[i].promise);
    JS_FreeValue(ctx, rejections[i].reason);
    rejections[i] = rejections[--rejection_count];
    return;
  }
}

void loop_track_rejections(JSRuntime *runtime) {
  JS_SetHostPromiseRejectionTracker(runtime, track_rejection, NULL);
}

// Runs the jobs that are there; answers how many ran.
static int run_jobs(JSContext *ctx) {
  JSRuntime *runtime = JS_GetRuntime(ctx);
  JSContext *context;
  int count = 0;
  while (count < JOBS_MAX) {
    int result = JS_ExecutePendingJob(runtime, &context);
    if (result == 0) break;
    if (result < 0) loop_report(context);
    count++;
  }
  while (rejection_count > 0) {
    struct rejection lost = rejections[--rejection_count];
    JS_FreeValue(ctx, lost.promise);
    report(ctx, lost.reason);
  }
  return count;
}

// Runs timers and jobs until none is due; answers how long to wait, in milliseconds.
static int settle(JSContext *ctx) {
  for (int turn = 0; turn < EVENTS_MAX; turn++) {
    int32_t wait_ms = -1;
    int ran = run_jobs(ctx);
    JSValue result = JS_Call(ctx, on_tick, JS_UNDEFINED, 0, NULL);
    if (JS_IsException(result)) {
      loop_report(ctx);
      continue;
    }
    if (JS_ToInt32(ctx, &wait_ms, result)) loop_report(ctx);
    JS_FreeValue(ctx, result);
    if (wait_ms != 0 && ran < JOBS_MAX && !JS_IsJobPending(JS_GetRuntime(ctx))) return wait_ms;
  }
  return 0;
}

static void dispatch(JSContext *ctx, const struct epoll_event *event) {
  int fd = (int)(uint32_t)event->data.u64;
  if (fd >= generation_count || generations[fd] != event->data.u64 >> 32) return;
  JSValue arguments[] = {JS_NewInt32(ctx, fd), JS_NewUint32(ctx, event->events)};
  JSValue result = JS_Call(ctx, on_dispatch, JS_UNDEFINED, 2, (JSValueConst *)arguments);
  if (JS_IsException(result)) loop_report(ctx);
  JS_FreeValue(ctx, result);
  run_jobs(ctx);
}

void loop_run(JSContext *ctx) {
  struct epoll_event events[EVENTS_MAX];
  run_jobs(ctx);
  // Without a loop in JavaScript nothing could ever happen.
  while (!JS_IsUndefined(on_tick)) {
    int count = epoll_wait(epoll_fd, events, EVENTS_MAX, settle(ctx));
    for (int i = 0; i < count; i++) dispatch(ctx, &events[i]);
  }
}

const JSCFunctionListEntry sys_loop[] = {
    JS_CFUNC_MAGIC_DEF("epollAdd", 2, sys_epoll_change, EPOLL_CTL_ADD),
    JS_CFUNC_MAGIC_DEF("epollModify", 2, sys_epoll_change, EPOLL_CTL_MOD),
    JS_CFUNC_MAGIC_DEF("epollRemove", 1, sys_epoll_change, EPOLL_CTL_DEL),
    SYS_ENTRY("setLoop", 3, sys_set_loop),
};
const int sys_loop_count = sizeof sys_loop / sizeof sys_loop[0];
