/*
 * Calls every socket function that WasmEdge adds to WASI preview 1, over the loopback interface, and
 * says of each, one a line, whether it works, or the error that it answers, or that it differs.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

enum { INET4 = 1, DATAGRAM = 1, STREAM = 2 };
enum { LEVEL_SOCKET = 0, REUSE_ADDRESS = 0, SOCKET_TYPE = 1 };
/* An address of the second version: its family, then its bytes. */
enum { ADDRESS_BYTES = 128 };

struct address {
  uint8_t *bytes;
  uint32_t length;
};
struct buffer {
  void *bytes;
  uint32_t length;
};
struct info {
  uint16_t flags;
  uint8_t family;
  uint8_t type;
  uint32_t protocol;
  uint32_t address_length;
  uint32_t address;
  uint32_t name;
  uint32_t name_length;
  uint32_t next;
};
struct socket_address {
  uint32_t family;
  uint32_t length;
  uint32_t data;
};

#define SOCKETS(suffix, text)                                                                      \
  int32_t sock_open##suffix(int32_t, int32_t, int32_t *) WASI("sock_open" text);                   \
  int32_t sock_bind##suffix(int32_t, struct address *, int32_t) WASI("sock_bind" text);            \
  int32_t sock_listen##suffix(int32_t, int32_t) WASI("sock_listen" text);                          \
  int32_t sock_connect##suffix(int32_t, struct address *, int32_t) WASI("sock_connect" text);      \
  int32_t sock_recv_##suffix(int32_t, struct buffer *, int32_t, int32_t, uint32_t *, uint32_t *)   \
      WASI("sock_recv" text);                                                                      \
  int32_t sock_send_##suffix(int32_t, struct buffer *, int32_t, int32_t, uint32_t *)               \
      WASI("sock_send" text);                                                                      \
  int32_t sock_send_to##suffix(int32_t, struct buffer *, int32_t, struct address *, int32_t,       \
                               int32_t, uint32_t *) WASI("sock_send_to" text);

SOCKETS(, "")
SOCKETS(_v2, "_v2")
int32_t sock_accept_v1(int32_t, int32_t *) WASI("sock_accept");
int32_t sock_accept_v2(int32_t, int32_t, int32_t *) WASI("sock_accept_v2");
int32_t sock_recv_from(int32_t, struct buffer *, int32_t, struct address *, int32_t, uint32_t *,
                       uint32_t *) WASI("sock_recv_from");
int32_t sock_recv_from_v2(int32_t, struct buffer *, int32_t, struct address *, int32_t, uint32_t *,
                          uint32_t *, uint32_t *) WASI("sock_recv_from_v2");
int32_t sock_getlocaladdr(int32_t, struct address *, uint32_t *, uint32_t *)
    WASI("sock_getlocaladdr");
int32_t sock_getpeeraddr(int32_t, struct address *, uint32_t *, uint32_t *) WASI("sock_getpeeraddr");
int32_t sock_getlocaladdr_v2(int32_t, struct address *, uint32_t *) WASI("sock_getlocaladdr_v2");
int32_t sock_getpeeraddr_v2(int32_t, struct address *, uint32_t *) WASI("sock_getpeeraddr_v2");
int32_t sock_setsockopt(int32_t, int32_t, int32_t, void *, int32_t) WASI("sock_setsockopt");
int32_t sock_getsockopt(int32_t, int32_t, int32_t, void *, uint32_t *) WASI("sock_getsockopt");
int32_t sock_shutdown_(int32_t, int32_t) WASI("sock_shutdown");
int32_t sock_getaddrinfo(const char *, int32_t, const char *, int32_t, void *, void *, int32_t,
                         uint32_t *) WASI("sock_getaddrinfo");

static void tell(const char *name, int32_t error, int right) {
  if (error != 0) {
    printf("%s error %d\n", name, error);
  } else {
    printf("%s %s\n", name, right ? "works" : "differs");
  }
  fflush(stdout);
}

static uint8_t local_bytes[4] = {127, 0, 0, 1};
static struct address local = {local_bytes, 4};

/* The second version's form of the same address. */
static uint8_t long_bytes[ADDRESS_BYTES];
static struct address long_local = {long_bytes, ADDRESS_BYTES};

static void set_long(struct address *address) {
  const uint16_t family = INET4;
  memset(address->bytes, 0, ADDRESS_BYTES);
  memcpy(address->bytes, &family, sizeof family);
  memcpy(address->bytes + sizeof family, local_bytes, sizeof local_bytes);
}

static uint32_t local_port(int32_t fd) {
  uint8_t bytes[ADDRESS_BYTES];
  struct address address = {bytes, ADDRESS_BYTES};
  uint32_t port = 0;
  (void)sock_getlocaladdr_v2(fd, &address, &port);
  return port;
}

static void stream_v1(void) {
  int32_t listener = -1, client = -1, server = -1, on = 1;
  tell("sock_open", sock_open(INET4, STREAM, &listener), listener > 2);
  tell("sock_setsockopt", sock_setsockopt(listener, LEVEL_SOCKET, REUSE_ADDRESS, &on, sizeof on), 1);
  int32_t type = 0;
  uint32_t size = sizeof type;
  int32_t error = sock_getsockopt(listener, LEVEL_SOCKET, SOCKET_TYPE, &type, &size);
  tell("sock_getsockopt", error, size == sizeof type && type == STREAM);
  tell("sock_bind", sock_bind(listener, &local, 0), local_port(listener) > 0);
  tell("sock_listen", sock_listen(listener, 4), 1);
  (void)sock_open(INET4, STREAM, &client);
  const uint32_t port = local_port(listener);
  tell("sock_connect", sock_connect(client, &local, (int32_t)port), 1);
  tell("sock_accept", sock_accept_v1(listener, &server), server > 2);
  uint8_t bytes[16] = {0};
  struct address address = {bytes, sizeof bytes};
  uint32_t kind = 0, found = 0;
  error = sock_getpeeraddr(client, &address, &kind, &found);
  tell("sock_getpeeraddr", error, found == port && memcmp(bytes, local_bytes, 4) == 0);
  memset(bytes, 0, sizeof bytes);
  error = sock_getlocaladdr(server, &address, &kind, &found);
  tell("sock_getlocaladdr", error, found == port && memcmp(bytes, local_bytes, 4) == 0);
  struct buffer out = {"ping", 4}, in = {bytes, sizeof bytes};
  uint32_t count = 0, flags = 0;
  tell("sock_send", sock_send_(client, &out, 1, 0, &count), count == 4);
  count = 0;
  error = sock_recv_(server, &in, 1, 0, &count, &flags);
  tell("sock_recv", error, count == 4 && memcmp(bytes, "ping", 4) == 0);
  error = sock_shutdown_(client, 2);
  count = 9;
  (void)sock_recv_(server, &in, 1, 0, &count, &flags);
  tell("sock_shutdown", error, count == 0);
  close(server), close(client), close(listener);
}

static void stream_v2(void) {
  int32_t listener = -1, client = -1, server = -1;
  set_long(&long_local);
  tell("sock_open_v2", sock_open_v2(INET4, STREAM, &listener), listener > 2);
  tell("sock_bind_v2", sock_bind_v2(listener, &long_local, 0), local_port(listener) > 0);
  tell("sock_listen_v2", sock_listen_v2(listener, 4), 1);
  (void)sock_open_v2(INET4, STREAM, &client);
  const uint32_t port = local_port(listener);
  tell("sock_connect_v2", sock_connect_v2(client, &long_local, (int32_t)port), 1);
  tell("sock_accept_v2", sock_accept_v2(listener, 0, &server), server > 2);
  uint8_t bytes[ADDRESS_BYTES] = {0};
  struct address address = {bytes, ADDRESS_BYTES};
  uint32_t found = 0;
  int32_t error = sock_getpeeraddr_v2(client, &address, &found);
  tell("sock_getpeeraddr_v2", error, found == port && memcmp(bytes + 2, local_bytes, 4) == 0);
  memset(bytes, 0, sizeof bytes);
  error = sock_getlocaladdr_v2(server, &address, &found);
  tell("sock_getlocaladdr_v2", error, found == port && memcmp(bytes + 2, local_bytes, 4) == 0);
  struct buffer out = {"ping", 4}, in = {bytes, sizeof bytes};
  uint32_t count = 0, flags = 0;
  tell("sock_send_v2", sock_send__v2(client, &out, 1, 0, &count), count == 4);
  count = 0;
  error = sock_recv__v2(server, &in, 1, 0, &count, &flags);
  tell("sock_recv_v2", error, count == 4 && memcmp(bytes, "ping", 4) == 0);
  close(server), close(client), close(listener);
}

static void datagrams(void) {
  int32_t receiver = -1, sender = -1;
  (void)sock_open_v2(INET4, DATAGRAM, &receiver);
  (void)sock_open_v2(INET4, DATAGRAM, &sender);
  (void)sock_bind_v2(receiver, &long_local, 0);
  const int32_t port = (int32_t)local_port(receiver);
  uint8_t bytes[16] = {0}, from[ADDRESS_BYTES] = {0};
  struct buffer out = {"ping", 4}, in = {bytes, sizeof bytes};
  struct address address = {from, ADDRESS_BYTES};
  uint32_t count = 0, flags = 0, found = 0;
  int32_t error = sock_send_to(sender, &out, 1, &local, port, 0, &count);
  tell("sock_send_to", error, count == 4);
  if (error != 0) (void)sock_send_to_v2(sender, &out, 1, &long_local, port, 0, &count);
  count = 0;
  error = sock_recv_from(receiver, &in, 1, &address, 0, &count, &flags);
  tell("sock_recv_from", error, count == 4 && memcmp(bytes, "ping", 4) == 0);
  error = sock_send_to_v2(sender, &out, 1, &long_local, port, 0, &count);
  tell("sock_send_to_v2", error, count == 4);
  count = 0;
  error = sock_recv_from_v2(receiver, &in, 1, &address, 0, &found, &count, &flags);
  tell("sock_recv_from_v2", error,
       count == 4 && memcmp(bytes, "ping", 4) == 0 && found == local_port(sender));
  close(sender), close(receiver);
}

/* Looks up the name that is for this machine. */
static void names(void) {
  uint8_t data[26] = {0};
  char name[32] = {0};
  struct socket_address address = {0, sizeof data, (uint32_t)(uintptr_t)data};
  struct info result = {0};
  struct info hint = {0};
  result.address_length = sizeof data;
  result.address = (uint32_t)(uintptr_t)&address;
  result.name = (uint32_t)(uintptr_t)name;
  result.name_length = sizeof name;
  hint.family = INET4;
  hint.type = STREAM;
  uint32_t result_pointer = (uint32_t)(uintptr_t)&result, found = 0;
  int32_t error = sock_getaddrinfo("localhost", 9, "80", 2, &hint, &result_pointer, 1, &found);
  tell("sock_getaddrinfo", error, found >= 1 && memcmp(data + 2, local_bytes, 4) == 0);
}

int main(void) {
  stream_v1();
  stream_v2();
  datagrams();
  names();
  return 0;
}
