/*
 * The relay of task calls: see relay.h. A request is kept until its answer has come.
 * Where the sandboxer goes away in between, those that can be repeated (waiting, looking) are sent to
 * the next one; of the others nobody knows whether they were done, so they are answered as
 * unavailable. A sandboxer that leaves in good order says "unavailable" itself before it goes: that
 * answer is held back until it is clear whether it does. What is relayed is containerd's and the
 * sandboxer's; no guest has a say in it.
 *
 * Source: containerd/ttrpc PROTOCOL.md (frames), request.proto (requests and responses).
 */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 10u
#define DATA_BYTES_MAX (4u << 20)
/* While so much waits for a reader, nothing more is read for it. */
#define QUEUE_BYTES_MAX (1u << 20)
#define READ_BYTES 65536u
#define PAIRS_MAX 1024u
#define PENDING_MAX 1024u
/* How often the sandboxer is looked for, and how long a call waits for it. */
#define CONNECT_INTERVAL_MS 50
#define WAIT_MS 10000
/* How long an answer that may be a farewell is held back. */
#define HOLD_MS 3000
#define UNAVAILABLE 14
/* How long what was asked for may still be answered once it is told to end. */
#define AFTERWARDS_MS 30000

/* How often it is looked whether there is still use for it. */
#define LOOK_MS 1000

enum message_type { REQUEST = 1, RESPONSE = 2 };

/* Bytes in a row that grow at the end and are taken from the start. */
struct buffer {
  uint8_t *bytes;
  size_t start;
  size_t end;
  size_t capacity;
};

/* A request without its answer. */
struct pending {
  struct pending *next;
  int64_t since_ms;
  uint32_t stream;
  bool is_sent;
  bool is_repeatable;
  int64_t held_ms; /* when an answer came that is held back; 0 for none */
  size_t length;
  uint8_t frame[];
};

/* A connection of containerd and the one to the sandboxer that belongs to it. */
struct pair {
  int client;
  int server; /* -1 while there is none */
  struct buffer from_client;
  struct buffer to_server;
  struct buffer from_server;
  struct buffer to_client;
  struct pending *pending;
  unsigned pending_count;
};

struct relay {
  int listener;
  int until; /* readable when it shall end; -1 once it was */
  int64_t ended_ms;
  int directory;
  const char *file;
  int idle_ms; /* it ends after so long without a client and without a sandboxer; 0 for never */
  int64_t idle_since_ms;
  int64_t looked_ms;
  void (*on_end)(void); /* called when it stops to listen; NULL for nothing */
  struct pair *pairs[PAIRS_MAX];
  unsigned count;
};

static int64_t now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t length_of(const struct buffer *buffer) { return buffer->end - buffer->start; }

static void take(struct buffer *buffer, size_t length) {
  buffer->start += length;
  if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

static bool reserve(struct buffer *buffer, size_t length) {
  if (buffer->capacity - buffer->end >= length) return true;
  const size_t used = length_of(buffer);
  if (buffer->start > 0) memmove(buffer->bytes, buffer->bytes + buffer->start, used);
  buffer->start = 0;
  buffer->end = used;
  size_t capacity = buffer->capacity == 0 ? 4096 : buffer->capacity;
  while (capacity - used < length) capacity *= 2;
  if (capacity == buffer->capacity) return true;
  uint8_t *bytes = realloc(buffer->bytes, capacity);
  if (bytes == NULL) return false;
  buffer->bytes = bytes;
  buffer->capacity = capacity;
  return true;
}

static bool append(struct buffer *buffer, const uint8_t *bytes, size_t length) {
  if (!reserve(buffer, length)) return false;
  memcpy(buffer->bytes + buffer->end, bytes, length);
  buffer->end += length;
  return true;
}

static void empty(struct buffer *buffer) {
  free(buffer->bytes);
  memset(buffer, 0, sizeof *buffer);
}

static uint32_t big_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void put_big_endian(uint8_t *bytes, uint32_t value) {
  for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* The length of the first frame; 0 while it is not whole. False for what is no frame. */
static bool next_frame(const struct buffer *buffer, size_t *length) {
  *length = 0;
  if (length_of(buffer) < HEADER_BYTES) return true;
  const uint32_t data = big_endian(buffer->bytes + buffer->start);
  if (data > DATA_BYTES_MAX) return false;
  if (length_of(buffer) >= HEADER_BYTES + data) *length = HEADER_BYTES + data;
  return true;
}

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && *at < end; shift += 7) {
    const uint8_t byte = *(*at)++;
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

/* Whether a request may be made twice. Its method is field 2 of the message. */
static bool is_repeatable(const uint8_t *data, size_t length) {
  static const char *const METHODS[] = {"Wait", "State", "Pids", "Stats", "Connect"};
  const uint8_t *at = data;
  const uint8_t *end = data + length;
  uint64_t tag = 0;
  while (at < end && read_varint(&at, end, &tag)) {
    uint64_t value = 0;
    if ((tag & 7) == 0 && read_varint(&at, end, &value)) continue;
    if ((tag & 7) != 2 || !read_varint(&at, end, &value) || value > (uint64_t)(end - at)) break;
    for (size_t i = 0; tag >> 3 == 2 && i < sizeof METHODS / sizeof METHODS[0]; i++) {
      if (strlen(METHODS[i]) == value && memcmp(METHODS[i], at, value) == 0) return true;
    }
    at += value;
  }
  return false;
}

/* The status code of a response: field 1 of the message in its field 1; 0 without one. */
static uint64_t status_code(const uint8_t *data, size_t length) {
  const uint8_t *at = data;
  const uint8_t *end = data + length;
  uint64_t value = 0;
  if (at == end || *at++ != 0x0a || !read_varint(&at, end, &value)) return 0;
  if (value > (uint64_t)(end - at) || value == 0 || *at++ != 0x08) return 0;
  return read_varint(&at, end, &value) ? value : 0;
}

static void forget(struct pair *pair, struct pending **link) {
  struct pending *gone = *link;
  *link = gone->next;
  pair->pending_count--;
  free(gone);
}

/* A Response with the gRPC status 14. */
static bool answer_unavailable(struct pair *pair, uint32_t stream) {
  static const char TEXT[] = "the sandboxer has gone away: it is not known whether this was done";
  uint8_t frame[HEADER_BYTES + 6 + sizeof TEXT];
  const uint8_t text_length = sizeof TEXT - 1;
  const uint8_t status_length = (uint8_t)(4 + text_length);
  const uint8_t prefix[] = {0x0a, status_length, 0x08, 14, 0x12, text_length};
  memcpy(frame + HEADER_BYTES, prefix, sizeof prefix);
  memcpy(frame + HEADER_BYTES + sizeof prefix, TEXT, text_length);
  const uint32_t length = (uint32_t)(sizeof prefix + text_length);
  put_big_endian(frame, length);
  put_big_endian(frame + 4, stream);
  frame[8] = RESPONSE;
  frame[9] = 0;
  return append(&pair->to_client, frame, HEADER_BYTES + length);
}

/* Keeps a request in mind, and sends it where there is somebody to send it to. */
static bool take_request(struct pair *pair, const uint8_t *frame, size_t length) {
  if (pair->pending_count >= PENDING_MAX) return false;
  struct pending *request = malloc(sizeof *request + length);
  if (request == NULL) return false;
  *request = (struct pending){
      .since_ms = now_ms(),
      .stream = big_endian(frame + 4),
      .is_sent = pair->server >= 0,
      .is_repeatable = is_repeatable(frame + HEADER_BYTES, length - HEADER_BYTES),
      .length = length,
  };
  memcpy(request->frame, frame, length);
  struct pending **last = &pair->pending;
  while (*last != NULL) last = &(*last)->next;
  *last = request;
  pair->pending_count++;
  return pair->server < 0 || append(&pair->to_server, frame, length);
}

static bool on_client_frames(struct pair *pair) {
  for (;;) {
    size_t length = 0;
    if (!next_frame(&pair->from_client, &length)) return false;
    if (length == 0) return true;
    const uint8_t *frame = pair->from_client.bytes + pair->from_client.start;
    /* Requests only: the task service has no streams. */
    if (frame[8] == REQUEST && !take_request(pair, frame, length)) return false;
    take(&pair->from_client, length);
  }
}

static bool on_server_frames(struct pair *pair) {
  for (;;) {
    size_t length = 0;
    if (!next_frame(&pair->from_server, &length)) return false;
    if (length == 0) return true;
    const uint8_t *frame = pair->from_server.bytes + pair->from_server.start;
    const uint32_t stream = big_endian(frame + 4);
    struct pending **link = &pair->pending;
    while (*link != NULL && (*link)->stream != stream) link = &(*link)->next;
    const bool is_answer = *link != NULL && frame[8] == RESPONSE;
    if (is_answer && (*link)->is_repeatable &&
        status_code(frame + HEADER_BYTES, length - HEADER_BYTES) == UNAVAILABLE) {
      (*link)->held_ms = now_ms();
    } else {
      if (is_answer) forget(pair, link);
      if (!append(&pair->to_client, frame, length)) return false;
    }
    take(&pair->from_server, length);
  }
}

/* The sandboxer has gone: what it may have done is given up, the rest waits for the next. */
static bool lose_server(struct pair *pair) {
  if (pair->server >= 0) (void)close(pair->server);
  pair->server = -1;
  empty(&pair->to_server);
  empty(&pair->from_server);
  for (struct pending **link = &pair->pending; *link != NULL;) {
    struct pending *request = *link;
    if (!request->is_sent || request->is_repeatable) {
      request->is_sent = false;
      request->held_ms = 0;
      link = &request->next;
      continue;
    }
    if (!answer_unavailable(pair, request->stream)) return false;
    forget(pair, link);
  }
  return true;
}

/*
 * Calls that cannot be repeated, and that nobody has taken, do not wait for ever; and an answer that
 * was no farewell after all is passed on.
 */
static bool give_up_late(struct pair *pair, int64_t now) {
  for (struct pending **link = &pair->pending; *link != NULL;) {
    struct pending *request = *link;
    const bool is_meant = request->held_ms != 0 && now - request->held_ms >= HOLD_MS;
    const bool is_late =
        !request->is_sent && !request->is_repeatable && now - request->since_ms >= WAIT_MS;
    if (!is_meant && !is_late) {
      link = &request->next;
      continue;
    }
    if (!answer_unavailable(pair, request->stream)) return false;
    forget(pair, link);
  }
  return true;
}

/* A connection to the sandboxer; -1 while there is none. */
static int connect_server(const struct relay *relay) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  /* By its directory, as the path may be longer than a socket's may be. */
  (void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%.64s",
                 relay->directory, relay->file);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
  (void)close(fd);
  return -1;
}

static bool find_server(const struct relay *relay, struct pair *pair) {
  const int fd = connect_server(relay);
  if (fd < 0) return true;
  pair->server = fd;
  for (struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (!append(&pair->to_server, request->frame, request->length)) return false;
    request->is_sent = true;
  }
  return true;
}

/* Reads what is there. False at the end of the connection, and for an error. */
static bool receive(int fd, struct buffer *buffer) {
  if (!reserve(buffer, READ_BYTES)) return false;
  const ssize_t got = read(fd, buffer->bytes + buffer->end, READ_BYTES);
  if (got > 0) buffer->end += (size_t)got;
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool deliver(int fd, struct buffer *buffer) {
  const ssize_t sent =
      send(fd, buffer->bytes + buffer->start, length_of(buffer), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) take(buffer, (size_t)sent);
  if (length_of(buffer) == 0) empty(buffer); /* a quiet connection takes no memory */
  return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

static void end_pair(struct relay *relay, unsigned index) {
  struct pair *pair = relay->pairs[index];
  (void)close(pair->client);
  if (pair->server >= 0) (void)close(pair->server);
  while (pair->pending != NULL) forget(pair, &pair->pending);
  empty(&pair->from_client);
  empty(&pair->to_server);
  empty(&pair->from_server);
  empty(&pair->to_client);
  free(pair);
  relay->pairs[index] = relay->pairs[--relay->count];
}

static void begin_pair(struct relay *relay) {
  const int client = accept4(relay->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;
  struct pair *pair = relay->count < PAIRS_MAX ? calloc(1, sizeof *pair) : NULL;
  if (pair == NULL) {
    (void)close(client);
    return;
  }
  pair->client = client;
  pair->server = -1;
  relay->pairs[relay->count++] = pair;
  /* Nothing has to be sent yet, so this cannot fail for want of memory. */
  (void)find_server(relay, pair);
}

/* False where the pair has ended. */
static bool serve_pair(const struct relay *relay, struct pair *pair, short client, short server) {
  const short failed = POLLERR | POLLHUP | POLLNVAL;
  if ((client & (POLLIN | failed)) != 0) {
    if (!receive(pair->client, &pair->from_client) || !on_client_frames(pair)) return false;
    if (length_of(&pair->from_client) == 0) empty(&pair->from_client);
  }
  if (pair->server >= 0 && (server & (POLLIN | failed)) != 0) {
    const bool there = receive(pair->server, &pair->from_server);
    if (there && !on_server_frames(pair)) return false;
    if (!there && !lose_server(pair)) return false;
    if (length_of(&pair->from_server) == 0) empty(&pair->from_server);
  }
  if (pair->server < 0 && !find_server(relay, pair)) return false;
  if (!give_up_late(pair, now_ms())) return false;
  if (pair->server >= 0 && length_of(&pair->to_server) > 0 &&
      !deliver(pair->server, &pair->to_server) && !lose_server(pair)) {
    return false;
  }
  return length_of(&pair->to_client) == 0 || deliver(pair->client, &pair->to_client);
}

/* Whether something is to be done for a pair without anybody saying so. */
static bool is_waiting(const struct pair *pair) {
  if (pair->server < 0) return true;
  for (const struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (request->held_ms != 0) return true;
  }
  return false;
}

static short interest(const struct buffer *in_the_way, const struct buffer *queue) {
  return (short)((length_of(in_the_way) < QUEUE_BYTES_MAX ? POLLIN : 0) |
                 (length_of(queue) > 0 ? POLLOUT : 0));
}

/* Calls that are under way are answered when the sandboxer has taken note of the end. */
static void begin_end(struct relay *relay) {
  if (relay->on_end != NULL) relay->on_end();
  (void)close(relay->until);
  (void)close(relay->listener);
  relay->until = relay->listener = -1;
  relay->ended_ms = now_ms();
}

static bool is_over(const struct relay *relay) {
  if (relay->until >= 0) return false;
  return relay->count == 0 || now_ms() - relay->ended_ms > AFTERWARDS_MS;
}

/* Nobody is connected: it looks now and then whether a sandboxer is still there. */
static void look_for_use(struct relay *relay, int64_t now) {
  if (relay->count > 0) {
    relay->idle_since_ms = now;
    return;
  }
  if (now - relay->looked_ms < LOOK_MS) return;
  relay->looked_ms = now;
  const int fd = connect_server(relay);
  if (fd >= 0) {
    (void)close(fd);
    relay->idle_since_ms = now;
  }
  if (now - relay->idle_since_ms >= relay->idle_ms) begin_end(relay);
}

/* How long to wait for something to happen. */
static int wait_ms(const struct relay *relay, bool is_looking) {
  if (is_looking) return CONNECT_INTERVAL_MS;
  return relay->idle_ms > 0 && relay->count == 0 ? LOOK_MS : -1;
}

_Noreturn static void run(struct relay *relay) {
  static struct pollfd polled[2 + 2 * PAIRS_MAX];
  for (;;) {
    bool is_looking = relay->until < 0;
    polled[0] = (struct pollfd){.fd = relay->listener, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = relay->until, .events = POLLIN};
    const unsigned count = relay->count;
    for (unsigned i = 0; i < count; i++) {
      const struct pair *pair = relay->pairs[i];
      is_looking = is_looking || is_waiting(pair);
      polled[2 + 2 * i] = (struct pollfd){
          .fd = pair->client, .events = interest(&pair->to_server, &pair->to_client)};
      polled[3 + 2 * i] = (struct pollfd){
          .fd = pair->server, .events = interest(&pair->to_client, &pair->to_server)};
    }
    const int ready = poll(polled, 2 + 2 * count, wait_ms(relay, is_looking));
    if (ready < 0 && errno != EINTR) _exit(1);
    if (ready < 0) continue;
    /* From the last to the first: the one that takes the place of an ended one was served. */
    for (unsigned i = count; i-- > 0;) {
      const short client = polled[2 + 2 * i].revents;
      const short server = polled[3 + 2 * i].revents;
      if (!serve_pair(relay, relay->pairs[i], client, server)) end_pair(relay, i);
    }
    if ((polled[0].revents & POLLIN) != 0) begin_pair(relay);
    if (polled[1].revents != 0) begin_end(relay);
    if (relay->until >= 0 && relay->idle_ms > 0) look_for_use(relay, now_ms());
    if (is_over(relay)) _exit(0);
  }
}

/* It reads and writes sockets, and has no use for any right. */
static bool give_up_rights(void) {
  for (int capability = 0; capability <= 63; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) return false;
  }
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  return syscall(SYS_capset, &header, none) == 0 &&
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static bool close_standard_streams(void) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  return null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
         dup2(null, STDERR_FILENO) >= 0;
}

void relay_run(const struct relay_options *options) {
  static struct relay relay;
  relay.listener = options->listener;
  relay.until = options->until;
  relay.directory = options->directory;
  relay.file = options->file;
  relay.idle_ms = options->idle_ms;
  relay.on_end = options->on_end;
  relay.idle_since_ms = relay.looked_ms = now_ms();
  (void)prctl(PR_SET_NAME, "quasaur-relay", 0, 0, 0);
  if (!close_standard_streams() || !give_up_rights()) _exit(1);
  run(&relay);
}

int relay_fork(int listener, int directory, const char *file) {
  const int parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
  if (parent < 0) return -1;
  const pid_t child = fork();
  if (child != 0) {
    const int error = errno;
    (void)close(parent);
    errno = error;
    return child < 0 ? -1 : 0;
  }
  relay_run(&(struct relay_options){
      .listener = listener, .until = parent, .directory = directory, .file = file});
}
