/*
 * A TCP server on WasmEdge's socket functions: answers every connection with an HTTP response that
 * names ID, on the port of its first argument (8080 without one).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

struct address {
  uint8_t *bytes;
  uint32_t length;
};
struct buffer {
  const void *bytes;
  uint32_t length;
};

int32_t sock_open(int32_t family, int32_t type, int32_t *fd) WASI("sock_open");
int32_t sock_bind(int32_t fd, struct address *address, int32_t port) WASI("sock_bind");
int32_t sock_listen(int32_t fd, int32_t backlog) WASI("sock_listen");
int32_t sock_accept_(int32_t fd, int32_t *connection) WASI("sock_accept");
int32_t sock_recv_(int32_t fd, struct buffer *buffers, int32_t count, int32_t flags, uint32_t *got,
                   uint32_t *flags_out) WASI("sock_recv");
int32_t sock_send_(int32_t fd, struct buffer *buffers, int32_t count, int32_t flags, uint32_t *put)
    WASI("sock_send");
int32_t sock_setsockopt(int32_t fd, int32_t level, int32_t name, int32_t *value, int32_t length)
    WASI("sock_setsockopt");

enum { FAMILY_INET4 = 1, TYPE_STREAM = 2, LEVEL_SOCKET = 0, OPTION_REUSE_ADDRESS = 0 };

static int fail(const char *what, int32_t error) {
  fprintf(stderr, "%s: error %d\n", what, error);
  return 1;
}

static void answer(int32_t connection) {
  char request[4096], body[128], response[512];
  struct buffer in = {request, sizeof request};
  uint32_t got = 0, put = 0, flags = 0;
  (void)sock_recv_(connection, &in, 1, 0, &got, &flags);
  const char *id = getenv("ID");
  int body_length = snprintf(body, sizeof body, "hello from %s\n", id == NULL ? "nobody" : id);
  int length = snprintf(response, sizeof response,
                        "HTTP/1.0 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                        body_length, body);
  struct buffer out = {response, (uint32_t)length};
  (void)sock_send_(connection, &out, 1, 0, &put);
  close(connection);
}

int main(int argc, char **argv) {
  int32_t port = argc > 1 ? atoi(argv[1]) : 8080;
  int32_t listener = -1, connection = -1, on = 1, error;
  uint8_t any[4] = {0, 0, 0, 0};
  struct address address = {any, sizeof any};
  if ((error = sock_open(FAMILY_INET4, TYPE_STREAM, &listener))) return fail("open", error);
  if ((error = sock_setsockopt(listener, LEVEL_SOCKET, OPTION_REUSE_ADDRESS, &on, sizeof on)))
    return fail("setsockopt", error);
  if ((error = sock_bind(listener, &address, port))) return fail("bind", error);
  if ((error = sock_listen(listener, 16))) return fail("listen", error);
  printf("listening on %d\n", port);
  fflush(stdout);
  for (;;) {
    if ((error = sock_accept_(listener, &connection))) return fail("accept", error);
    answer(connection);
  }
}
