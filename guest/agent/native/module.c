// The module "sys" as a whole: its list of functions, and how they read arguments and answer.
#include "sys.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void args_begin(struct args *args, JSContext *ctx, int argc, JSValueConst *argv) {
  memset(args, 0, sizeof *args);
  args->ctx = ctx;
  args->argc = argc;
  args->argv = argv;
}

void args_free(struct args *args) {
  for (int i = 0; i < args->text_count; i++) JS_FreeCString(args->ctx, args->texts[i]);
  args->text_count = 0;
}

int args_more(const struct args *args) {
  return args->next < args->argc && !JS_IsUndefined(args->argv[args->next]);
}

// The next argument; undefined behind the last.
static JSValueConst args_next(struct args *args) {
  return args->next < args->argc ? args->argv[args->next++] : JS_UNDEFINED;
}

int32_t args_int(struct args *args) {
  int32_t value = 0;
  JSValueConst argument = args_next(args);
  if (args->failed) return 0;
  if (!JS_IsNumber(argument)) {
    JS_ThrowTypeError(args->ctx, "argument %d is not a number", args->next);
    args->failed = 1;
  } else if (JS_ToInt32(args->ctx, &value, argument)) {
    args->failed = 1;
  }
  return value;
}

int32_t args_int_or(struct args *args, int32_t fallback) {
  if (args_more(args)) return args_int(args);
  args->next++;
  return fallback;
}

double args_double(struct args *args) {
  double value = 0;
  JSValueConst argument = args_next(args);
  if (args->failed) return 0;
  if (!JS_IsNumber(argument)) {
    JS_ThrowTypeError(args->ctx, "argument %d is not a number", args->next);
    args->failed = 1;
  } else if (JS_ToFloat64(args->ctx, &value, argument)) {
    args->failed = 1;
  }
  return value;
}

int64_t args_int64(struct args *args) {
  double value = args_double(args);
  // Behind 2^53 a JavaScript number no longer is the number that was meant.
  if (!(value >= -9007199254740992.0 && value <= 9007199254740992.0)) {
    if (!args->failed) JS_ThrowRangeError(args->ctx, "argument %d is too large", args->next);
    args->failed = 1;
    return 0;
  }
  return (int64_t)value;
}

static const char *keep_text(struct args *args, JSValueConst argument) {
  size_t length;
  const char *text;
  if (args->failed) return NULL;
  if (!JS_IsString(argument) || args->text_count == ARGS_TEXTS_MAX) {
    JS_ThrowTypeError(args->ctx, "argument %d is not a text", args->next);
    args->failed = 1;
    return NULL;
  }
  text = JS_ToCStringLen(args->ctx, &length, argument);
  if (!text) {
    args->failed = 1;
    return NULL;
  }
  args->texts[args->text_count++] = text;
  if (strlen(text) != length) {
    JS_ThrowTypeError(args->ctx, "argument %d has a zero byte", args->next);
    args->failed = 1;
    return NULL;
  }
  return text;
}

const char *args_text(struct args *args) {
  return keep_text(args, args_next(args));
}

const char *args_text_or_null(struct args *args) {
  JSValueConst argument = args_next(args);
  if (JS_IsNull(argument) || JS_IsUndefined(argument)) return NULL;
  return keep_text(args, argument);
}

uint8_t *args_bytes(struct args *args, size_t *length) {
  size_t size = 0;
  uint8_t *bytes = NULL;
  JSValueConst buffer = args_next(args);
  *length = 0;
  if (args->failed) return NULL;
  bytes = JS_GetArrayBuffer(args->ctx, &size, buffer);
  // An empty buffer may have no address at all: only then is NULL without an exception right.
  if (!bytes && (size > 0 || JS_HasException(args->ctx))) {
    args->failed = 1;
    return NULL;
  }
  int64_t offset = args_int64(args), count = args_int64(args);
  if (args->failed) return NULL;
  if (offset < 0 || count < 0 || (uint64_t)offset > size || (uint64_t)count > size - (uint64_t)offset) {
    JS_ThrowRangeError(args->ctx, "offset or length outside of the buffer");
    args->failed = 1;
    return NULL;
  }
  *length = (size_t)count;
  return bytes ? bytes + offset : NULL;
}

JSValue answer(JSContext *ctx, int64_t result) {
  return JS_NewInt64(ctx, result == -1 ? -errno : result);
}

JSValue args_answer(struct args *args, int64_t result) {
  int error = errno;
  args_free(args);
  errno = error;
  return args->failed ? JS_EXCEPTION : answer(args->ctx, result);
}

JSValue answer_pair(JSContext *ctx, int first, int second) {
  JSValue pair = JS_NewArray(ctx);
  if (JS_IsException(pair) || JS_SetPropertyUint32(ctx, pair, 0, JS_NewInt32(ctx, first)) < 0 ||
      JS_SetPropertyUint32(ctx, pair, 1, JS_NewInt32(ctx, second)) < 0) {
    close(first);
    close(second);
    JS_FreeValue(ctx, pair);
    return JS_EXCEPTION;
  }
  return pair;
}

static int list_length(JSContext *ctx, JSValueConst array) {
  int32_t length = -1;
  JSValue value;
  if (JS_IsArray(ctx, array) != 1) {
    JS_ThrowTypeError(ctx, "argument is not an array");
    return -1;
  }
  value = JS_GetPropertyStr(ctx, array, "length");
  if (JS_IsException(value) || JS_ToInt32(ctx, &length, value) || length < 0 || length > 65536) {
    if (!JS_HasException(ctx)) JS_ThrowRangeError(ctx, "array is too long");
    length = -1;
  }
  JS_FreeValue(ctx, value);
  return length;
}

char **text_list(JSContext *ctx, JSValueConst array) {
  int length = list_length(ctx, array);
  char **list;
  if (length < 0) return NULL;
  list = calloc((size_t)length + 1, sizeof *list);
  if (!list) {
    JS_ThrowOutOfMemory(ctx);
    return NULL;
  }
  for (int i = 0; i < length; i++) {
    JSValue element = JS_GetPropertyUint32(ctx, array, (uint32_t)i);
    size_t bytes = 0;
    const char *text = JS_IsString(element) ? JS_ToCStringLen(ctx, &bytes, element) : NULL;
    if (text && strlen(text) == bytes) list[i] = strdup(text);
    if (text) JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, element);
    if (!list[i]) {
      if (!JS_HasException(ctx)) JS_ThrowTypeError(ctx, "element %d is not a plain text", i);
      text_list_free(list);
      return NULL;
    }
  }
  return list;
}

void text_list_free(char **list) {
  if (!list) return;
  for (char **text = list; *text; text++) free(*text);
  free(list);
}

int int_list(JSContext *ctx, JSValueConst array, int *into, int capacity) {
  int length = list_length(ctx, array);
  if (length > capacity) {
    JS_ThrowRangeError(ctx, "array is too long");
    return -1;
  }
  for (int i = 0; i < length; i++) {
    JSValue element = JS_GetPropertyUint32(ctx, array, (uint32_t)i);
    int failed = JS_ToInt32(ctx, &into[i], element);
    JS_FreeValue(ctx, element);
    if (failed) return -1;
  }
  return length;
}

struct part {
  const JSCFunctionListEntry *entries;
  const int *count;
};

static const struct part parts[] = {
    {sys_files, &sys_files_count},       {sys_text, &sys_text_count},
    {sys_mounts, &sys_mounts_count},     {sys_descriptors, &sys_descriptors_count},
    {sys_processes, &sys_processes_count}, {sys_machine, &sys_machine_count},
    {sys_sockets, &sys_sockets_count},   {sys_loop, &sys_loop_count},
    {sys_entering, &sys_entering_count}, {sys_creating, &sys_creating_count},
    {sys_program, &sys_program_count},
};
#define PART_COUNT (sizeof parts / sizeof parts[0])

static int fill(JSContext *ctx, JSModuleDef *module) {
  for (size_t i = 0; i < PART_COUNT; i++) {
    if (JS_SetModuleExportList(ctx, module, parts[i].entries, *parts[i].count)) return -1;
  }
  return 0;
}

JSModuleDef *sys_module(JSContext *ctx, const char *name) {
  JSModuleDef *module = JS_NewCModule(ctx, name, fill);
  if (!module) return NULL;
  for (size_t i = 0; i < PART_COUNT; i++) {
    if (JS_AddModuleExportList(ctx, module, parts[i].entries, *parts[i].count)) return NULL;
  }
  return module;
}
