// What the parts of the native module "sys" share. Every function of the module answers a number
// that is never negative, or -errno, or a value of its own; see ../sys.d.ts for each of them.
#ifndef QUASAUR_AGENT_SYS_H
#define QUASAUR_AGENT_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <quickjs/quickjs.h>
#include <stddef.h>
#include <stdint.h>

// Bytes of free memory that the agent's heap keeps.
#define HEAP_SPARE_BYTES (128 << 10)

// The head of a function of the module.
#define SYS_FUNCTION(name)                                                                         \
  JSValue name(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
#define SYS_UNUSED (void)self, (void)argc, (void)argv
// One line of a list of functions.
#define SYS_ENTRY(name, length, function) JS_CFUNC_DEF(name, length, function)

// Reads arguments one after the other. The first one that does not fit raises an exception, and all
// later ones are skipped, so that callers check once. Texts live until args_free.
#define ARGS_TEXTS_MAX 4
struct args {
  JSContext *ctx;
  int argc;
  JSValueConst *argv;
  int next;
  int failed;
  const char *texts[ARGS_TEXTS_MAX];
  int text_count;
};

void args_begin(struct args *args, JSContext *ctx, int argc, JSValueConst *argv);
void args_free(struct args *args);
int args_more(const struct args *args);
int32_t args_int(struct args *args);
// An optional number: `fallback` where it is missing or undefined.
int32_t args_int_or(struct args *args, int32_t fallback);
int64_t args_int64(struct args *args);
double args_double(struct args *args);
// Text without a zero byte (a path that is cut at one would name another file).
const char *args_text(struct args *args);
// Text, or NULL for null and undefined.
const char *args_text_or_null(struct args *args);
// A buffer, an offset and a length, checked against the buffer's end.
uint8_t *args_bytes(struct args *args, size_t *length);

// The answer of a system call: the result, or -errno where it is -1.
JSValue answer(JSContext *ctx, int64_t result);
// Frees the arguments and gives the answer; or the exception, where reading the arguments failed.
JSValue args_answer(struct args *args, int64_t result);
// A pair of descriptors as an array; closes both where that fails.
JSValue answer_pair(JSContext *ctx, int first, int second);

// Copies an array of texts into a list that ends with NULL; NULL with an exception where it cannot.
char **text_list(JSContext *ctx, JSValueConst array);
void text_list_free(char **list);
// Copies an array of numbers; answers the count, or -1 with an exception.
int int_list(JSContext *ctx, JSValueConst array, int *into, int capacity);

// The functions of each part.
extern const JSCFunctionListEntry sys_files[], sys_text[], sys_mounts[], sys_descriptors[],
    sys_processes[], sys_entering[], sys_creating[], sys_machine[], sys_sockets[], sys_loop[],
    sys_program[];
extern const int sys_files_count, sys_text_count, sys_mounts_count, sys_descriptors_count,
    sys_processes_count, sys_entering_count, sys_creating_count, sys_machine_count,
    sys_sockets_count, sys_loop_count, sys_program_count;

// loop.c
int loop_open(void);
void loop_run(JSContext *ctx);
void loop_report(JSContext *ctx);
void loop_track_rejections(JSRuntime *runtime);

// program.c
void program_arguments(int argc, char **argv);

// module.c
JSModuleDef *sys_module(JSContext *ctx, const char *name);

#endif
