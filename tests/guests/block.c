/*
 * Waits in the system call that its first argument names, until somebody ends it. Says `blocking`
 * first. Kinds: sleep, poll, stdin, stdout, accept, recv, connect (port in the second argument),
 * write (a large file, written and synchronised again and again, at the path of the second).
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

struct address {
  uint8_t *bytes;
  uint32_t length;
};
struct buffer {
  void *bytes;
  uint32_t length;
};

int32_t sock_open(int32_t family, int32_t type, int32_t *fd) WASI("sock_open");
int32_t sock_bind(int32_t fd, struct address *address, int32_t port) WASI("sock_bind");
int32_t sock_listen(int32_t fd, int32_t backlog) WASI("sock_listen");
int32_t sock_connect(int32_t fd, struct address *address, int32_t port) WASI("sock_connect");
int32_t sock_accept_(int32_t fd, int32_t *connection) WASI("sock_accept");
int32_t sock_recv_(int32_t fd, struct buffer *buffers, int32_t count, int32_t flags, uint32_t *got,
                   uint32_t *flags_out) WASI("sock_recv");

enum { FAMILY_INET4 = 1, TYPE_STREAM = 2 };

static uint8_t loopback[4] = {127, 0, 0, 1};
static struct address host = {loopback, sizeof loopback};

static void blocking(void) { write(1, "blocking\n", 9); }

static int fail(const char *what, int32_t error) {
  fprintf(stderr, "%s: error %d\n", what, error);
  return 1;
}

static int listener_at(int32_t port, int32_t *listener) {
  int32_t error;
  if ((error = sock_open(FAMILY_INET4, TYPE_STREAM, listener))) return fail("open", error);
  if ((error = sock_bind(*listener, &host, port))) return fail("bind", error);
  if ((error = sock_listen(*listener, 1))) return fail("listen", error);
  return 0;
}

static int block_poll(void) {
  __wasi_subscription_t want = {0};
  __wasi_event_t event;
  __wasi_size_t count = 0;
  want.u.tag = __WASI_EVENTTYPE_FD_READ;
  want.u.u.fd_read.file_descriptor = 0;
  blocking();
  return __wasi_poll_oneoff(&want, &event, 1, &count);
}

static int block_stdout(void) {
  static char bytes[65536];
  blocking();
  memset(bytes, '.', sizeof bytes);
  for (;;)
    if (write(1, bytes, sizeof bytes) < 0) return 1;
}

static int block_recv(int32_t port) {
  char bytes[16];
  struct buffer in = {bytes, sizeof bytes};
  uint32_t got = 0, flags = 0;
  int32_t listener = -1, client = -1, error;
  if (listener_at(port, &listener)) return 1;
  if ((error = sock_open(FAMILY_INET4, TYPE_STREAM, &client))) return fail("open", error);
  if ((error = sock_connect(client, &host, port))) return fail("connect", error);
  blocking();
  return sock_recv_(client, &in, 1, 0, &got, &flags);
}

/* Connections that nobody accepts fill the queue; the next one waits. */
static int block_connect(int32_t port) {
  int32_t listener = -1, client = -1, error;
  if (listener_at(port, &listener)) return 1;
  for (int i = 0; i < 100; i++) {
    if ((error = sock_open(FAMILY_INET4, TYPE_STREAM, &client))) return fail("open", error);
    blocking();
    if ((error = sock_connect(client, &host, port))) return fail("connect", error);
  }
  return fail("connect", 0);
}

static int block_accept(int32_t port) {
  int32_t listener = -1, connection = -1;
  if (listener_at(port, &listener)) return 1;
  blocking();
  return sock_accept_(listener, &connection);
}

static int block_write(const char *path) {
  static char bytes[1 << 20];
  memset(bytes, 'x', sizeof bytes);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) return fail("open", 0);
  blocking();
  for (;;) {
    for (int i = 0; i < 64; i++)
      if (write(fd, bytes, sizeof bytes) < 0) return fail("write", 0);
    fsync(fd);
    lseek(fd, 0, SEEK_SET);
  }
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "sleep";
  int32_t port = argc > 2 ? atoi(argv[2]) : 0;
  char byte;
  if (strcmp(kind, "poll") == 0) return block_poll();
  if (strcmp(kind, "stdout") == 0) return block_stdout();
  if (strcmp(kind, "accept") == 0) return block_accept(port);
  if (strcmp(kind, "recv") == 0) return block_recv(port);
  if (strcmp(kind, "connect") == 0) return block_connect(port);
  if (strcmp(kind, "write") == 0) return block_write(argc > 2 ? argv[2] : "/block");
  blocking();
  if (strcmp(kind, "stdin") == 0) return (int)read(0, &byte, 1);
  sleep(3600);
  return 0;
}
