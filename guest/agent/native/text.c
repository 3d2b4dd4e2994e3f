// Text and base64 in and out of buffers: QuickJS has neither TextEncoder nor anything for base64.
#include "sys.h"

#include <stdlib.h>
#include <string.h>

static SYS_FUNCTION(sys_decode_utf8) {
  struct args a;
  size_t length;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  uint8_t *bytes = args_bytes(&a, &length);
  if (a.failed) return args_answer(&a, -1);
  return JS_NewStringLen(ctx, length ? (const char *)bytes : "", length);
}

static SYS_FUNCTION(sys_encode_utf8) {
  struct args a;
  size_t size = 0, length = 0;
  SYS_UNUSED;
  if (argc < 3) return JS_ThrowTypeError(ctx, "too few arguments");
  args_begin(&a, ctx, argc, argv);
  a.next = 2;
  int64_t offset = args_int64(&a);
  if (a.failed) return args_answer(&a, -1);
  uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, argv[1]);
  if (!bytes && JS_HasException(ctx)) return JS_EXCEPTION;
  if (offset < 0 || (uint64_t)offset > size) {
    return JS_ThrowRangeError(ctx, "offset outside of the buffer");
  }
  // Zero bytes are fine in text, so this does not go through args_text.
  const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
  if (!text) return JS_EXCEPTION;
  int fits = length <= size - (size_t)offset;
  if (fits && length) memcpy(bytes + offset, text, length);
  JS_FreeCString(ctx, text);
  return JS_NewInt64(ctx, fits ? (int64_t)length : -ENOSPC);
}

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int sextet(unsigned char letter) {
  if (letter >= 'A' && letter <= 'Z') return letter - 'A';
  if (letter >= 'a' && letter <= 'z') return letter - 'a' + 26;
  if (letter >= '0' && letter <= '9') return letter - '0' + 52;
  return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

// Decodes into `bytes` (3 for every 4 letters); answers the count, or -1.
static ssize_t decode_base64(const char *text, size_t length, uint8_t *bytes) {
  size_t used = 0;
  uint32_t bits = 0;
  int bit_count = 0;
  while (length > 0 && text[length - 1] == '=') length--;
  if (length % 4 == 1) return -1;
  for (size_t i = 0; i < length; i++) {
    int value = sextet((unsigned char)text[i]);
    if (value < 0) return -1;
    bits = bits << 6 | (uint32_t)value;
    bit_count += 6;
    if (bit_count >= 8) {
      bit_count -= 8;
      bytes[used++] = (uint8_t)(bits >> bit_count);
    }
  }
  return (ssize_t)used;
}

static void free_bytes(JSRuntime *runtime, void *opaque, void *bytes) {
  (void)opaque;
  js_free_rt(runtime, bytes);
}

static SYS_FUNCTION(sys_decode_base64) {
  size_t length;
  SYS_UNUSED;
  if (argc < 1) return JS_ThrowTypeError(ctx, "too few arguments");
  const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
  if (!text) return JS_EXCEPTION;
  uint8_t *bytes = js_malloc(ctx, length / 4 * 3 + 4);
  ssize_t count = bytes ? decode_base64(text, length, bytes) : -1;
  JS_FreeCString(ctx, text);
  if (!bytes) return JS_EXCEPTION;
  if (count < 0) {
    js_free(ctx, bytes);
    return JS_NewInt32(ctx, -EINVAL);
  }
  return JS_NewArrayBuffer(ctx, bytes, (size_t)count, free_bytes, NULL, 0);
}

static SYS_FUNCTION(sys_encode_base64) {
  struct args a;
  size_t length, used = 0;
  SYS_UNUSED;
  args_begin(&a, ctx, argc, argv);
  uint8_t *bytes = args_bytes(&a, &length);
  if (a.failed) return args_answer(&a, -1);
  char *text = js_malloc(ctx, (length + 2) / 3 * 4 + 1);
  if (!text) return JS_EXCEPTION;
  for (size_t i = 0; i < length; i += 3) {
    size_t left = length - i;
    uint32_t bits = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                    (left > 2 ? bytes[i + 2] : 0);
    text[used++] = ALPHABET[bits >> 18];
    text[used++] = ALPHABET[bits >> 12 & 63];
    text[used++] = left > 1 ? ALPHABET[bits >> 6 & 63] : '=';
    text[used++] = left > 2 ? ALPHABET[bits & 63] : '=';
  }
  JSValue result = JS_NewStringLen(ctx, text, used);
  js_free(ctx, text);
  return result;
}

const JSCFunctionListEntry sys_text[] = {
    SYS_ENTRY("decodeUtf8", 3, sys_decode_utf8),
    SYS_ENTRY("encodeUtf8", 3, sys_encode_utf8),
    SYS_ENTRY("decodeBase64", 1, sys_decode_base64),
    SYS_ENTRY("encodeBase64", 3, sys_encode_base64),
};
const int sys_text_count = sizeof sys_text / sizeof sys_text[0];
