/*
 * The relay of task calls: see relay.h. A request is kept until its answer has come.
 * Where the sandboxer goes away in between, those that can be made twice (waiting, looking, ending)
 * are sent to the next one; of the others nobody knows whether they were done, so they are answered as
 * unavailable. A sandboxer that leaves in good order says "unavailable" itself before it goes: that
 * answer is held back until it is clear whether it does. It also says so to what it has not begun
 * (RESTARTING below): that can be sent to the next one whatever it is. So can what it has not answered
 * before its farewell, which is its last frame for who has said hello. What is relayed is containerd's
 * and the sandboxer's; no guest has a say in it.
 *
 * Source: containerd/ttrpc PROTOCOL.md (frames), request.proto (requests and responses).
 */
#define _GNU_SOURCE
#include "relay.h"
#include "no_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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
#define PAIRS_MAX 4096u
#define PENDING_MAX 1024u
#define EVENTS_MAX 256
/* How often the sandboxer is looked for, and how long a call waits for it. */
#define CONNECT_INTERVAL_MS 50
#define WAIT_MS 30000
/* How long an answer that may be a farewell is held back, and one that can be nothing else. */
#define HOLD_MS 3000
#define FAREWELL_HOLD_MS 30000
/* In the message of an answer: what was asked for was not begun. See RESTARTING in errors.ts. */
#define RESTARTING "is restarting"
#define DEADLINE_EXCEEDED 4
#define UNAVAILABLE 14
#define SIGNAL_KILL 9
/*
 * How long what was asked for may still be answered once it is told to end, and how long something
 * more may still be asked.
 */
#define AFTERWARDS_MS 30000
#define AFTERTHOUGHT_MS 1000

/* How often it is looked whether there is still use for it. */
#define LOOK_MS 1000

/* The last two are our own, with stream 0 and no data: see RELAY_MESSAGE_TYPE in frames.ts. */
enum message_type { REQUEST = 1, RESPONSE = 2, HELLO = 0x51, FAREWELL = 0x52 };

/* What becomes of a request whose sandboxer goes away. */
enum again {
  NEVER,   /* made twice it could do harm */
  BOUNDED, /* it is made again, and waits for the next sandboxer as long as all others */
  ALWAYS,  /* it waits however long there is none */
};

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
  int64_t timeout_ms; /* how long its caller waits; 0 for ever */
  bool is_sent;
  enum again again;
  int64_t held_ms; /* when an answer came that is held back; 0 for none */
  int64_t hold_ms; /* for how long */
  size_t length;
  uint8_t frame[];
};

/* A connection of containerd and the one to the sandboxer that belongs to it. */
struct pair {
  int client;
  int server; /* -1 while there is none */
  uint32_t client_interest;
  uint32_t server_interest;
  unsigned index;   /* among all pairs */
  bool is_waiting;  /* something is to be done without anybody saying so */
  bool is_left;     /* the sandboxer has said that it takes nothing more */
  bool is_over;     /* it is freed when nobody can mean it any more */
  struct pair *next_over;
  struct buffer from_client;
  struct buffer to_server;
  struct buffer from_server;
  struct buffer to_client;
  struct pending *pending;
  unsigned pending_count;
};

struct relay {
  int events;
  int listener;
  int until; /* readable when it shall end; -1 once it was */
  int64_t ended_ms;
  int64_t asked_ms; /* when there was a request without its answer, once it has ended */
  int directory;
  const char *file;
  int idle_ms; /* it ends after so long without a client and without a sandboxer; 0 for never */
  int64_t idle_since_ms;
  int64_t looked_ms;
  int64_t missed_ms; /* when there was nobody to connect to; 0 where there was */
  bool is_full;      /* no connection can be taken at the moment */
  int64_t scanned_ms;
  unsigned waiting; /* pairs that are */
  struct pair *over;
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

/* A field of a message: its number and, by its type, its value or its bytes. */
struct field {
  uint64_t number;
  uint64_t value;
  const uint8_t *bytes; /* NULL for a number */
};

/* Takes the next field. False at the end, and for what is none. */
static bool next_field(const uint8_t **at, const uint8_t *end, struct field *field) {
  uint64_t tag = 0;
  if (*at >= end || !read_varint(at, end, &tag)) return false;
  field->number = tag >> 3;
  field->bytes = NULL;
  if ((tag & 7) == 0) return read_varint(at, end, &field->value);
  if ((tag & 7) != 2 || !read_varint(at, end, &field->value)) return false;
  if (field->value > (uint64_t)(end - *at)) return false;
  field->bytes = *at;
  *at += field->value;
  return true;
}

static bool is_text(const struct field *field, const char *text) {
  return field->bytes != NULL && strlen(text) == field->value &&
         memcmp(text, field->bytes, field->value) == 0;
}

/* Whether a KillRequest is for SIGKILL, its field 3: any other signal may be counted by who gets it. */
static bool is_sigkill(const struct field *payload) {
  const uint8_t *at = payload->bytes;
  const uint8_t *end = at + payload->value;
  struct field field;
  while (at != NULL && next_field(&at, end, &field)) {
    if (field.number == 3 && field.bytes == NULL) return field.value == SIGNAL_KILL;
  }
  return false;
}

/*
 * What a Request asks for: its method is field 2, its payload field 3, its time-out in nanoseconds
 * field 4. containerd takes a second Delete or Kill that finds nothing for done.
 */
static void read_request(const uint8_t *data, size_t length, struct pending *request) {
  static const char *const METHODS[] = {"State",  "Pids",      "Stats",   "Connect", "Delete",
                                        "Update", "ResizePty", "CloseIO", "Shutdown"};
  const uint8_t *at = data;
  bool is_kill = false;
  struct field payload = {0};
  struct field field;
  while (next_field(&at, data + length, &field)) {
    if (field.number == 2 && is_text(&field, "Wait")) request->again = ALWAYS;
    for (size_t i = 0; field.number == 2 && i < sizeof METHODS / sizeof METHODS[0]; i++) {
      if (is_text(&field, METHODS[i])) request->again = BOUNDED;
    }
    is_kill = is_kill || (field.number == 2 && is_text(&field, "Kill"));
    if (field.number == 3 && field.bytes != NULL) payload = field;
    if (field.number == 4 && field.bytes == NULL && field.value <= INT64_MAX) {
      request->timeout_ms = (int64_t)(field.value / 1000000u) + (field.value > 0 ? 1 : 0);
    }
  }
  if (is_kill && payload.bytes != NULL && is_sigkill(&payload)) request->again = BOUNDED;
}

/* What the answer to a request says of it. */
enum answer { DONE, GONE, NOT_BEGUN };

/* The status of a Response is in its field 1: a code in field 1 of that, a message in field 2. */
static enum answer read_answer(const uint8_t *data, size_t length) {
  const uint8_t *at = data;
  struct field status;
  if (!next_field(&at, data + length, &status) || status.number != 1 || status.bytes == NULL) {
    return DONE;
  }
  const uint8_t *end = status.bytes + status.value;
  at = status.bytes;
  enum answer answer = DONE;
  bool is_farewell = false;
  struct field field;
  while (next_field(&at, end, &field)) {
    if (field.number == 1 && field.bytes == NULL && field.value == UNAVAILABLE) answer = GONE;
    if (field.number == 2 && field.bytes != NULL) {
      is_farewell = memmem(field.bytes, field.value, RESTARTING, strlen(RESTARTING)) != NULL;
    }
  }
  return answer == GONE && is_farewell ? NOT_BEGUN : answer;
}

static void forget(struct pair *pair, struct pending **link) {
  struct pending *gone = *link;
  *link = gone->next;
  pair->pending_count--;
  free(gone);
}

/* A Response with a gRPC status. The text has at most 119 bytes: its lengths take one byte each. */
static bool answer_status(struct pair *pair, uint32_t stream, uint8_t code, const char *text) {
  uint8_t frame[HEADER_BYTES + 6 + 128];
  const uint8_t text_length = (uint8_t)strlen(text);
  const uint8_t status_length = (uint8_t)(4 + text_length);
  const uint8_t prefix[] = {0x0a, status_length, 0x08, code, 0x12, text_length};
  memcpy(frame + HEADER_BYTES, prefix, sizeof prefix);
  memcpy(frame + HEADER_BYTES + sizeof prefix, text, text_length);
  const uint32_t length = (uint32_t)(sizeof prefix + text_length);
  put_big_endian(frame, length);
  put_big_endian(frame + 4, stream);
  frame[8] = RESPONSE;
  frame[9] = 0;
  return append(&pair->to_client, frame, HEADER_BYTES + length);
}

/* Answers for a sandboxer that does not. */
static bool answer_for(struct pair *pair, const struct pending *request, bool is_late) {
  if (is_late) {
    return answer_status(pair, request->stream, DEADLINE_EXCEEDED,
                         "no sandboxer serves: the call was not made in its time");
  }
  const char *text = request->held_ms != 0 ? "the sandboxer cannot do this now: try again"
                     : request->is_sent
                         ? "the sandboxer has gone away: it is not known whether this was done"
                         : "no sandboxer serves: this was not done, try again";
  return answer_status(pair, request->stream, UNAVAILABLE, text);
}

/* Keeps a request in mind, and sends it where there is somebody to send it to. */
static bool take_request(struct pair *pair, const uint8_t *frame, size_t length) {
  if (pair->pending_count >= PENDING_MAX) return false;
  struct pending *request = malloc(sizeof *request + length);
  if (request == NULL) return false;
  *request = (struct pending){
      .since_ms = now_ms(),
      .stream = big_endian(frame + 4),
      .is_sent = pair->server >= 0 && !pair->is_left,
      .length = length,
  };
  memcpy(request->frame, frame, length);
  read_request(frame + HEADER_BYTES, length - HEADER_BYTES, request);
  struct pending **last = &pair->pending;
  while (*last != NULL) last = &(*last)->next;
  *last = request;
  pair->pending_count++;
  return !request->is_sent || append(&pair->to_server, frame, length);
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

/* What was not answered was not begun: it waits for the next sandboxer. */
static void hear_farewell(struct pair *pair) {
  pair->is_left = true;
  for (struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (!request->is_sent || request->held_ms != 0) continue;
    request->held_ms = now_ms();
    request->hold_ms = FAREWELL_HOLD_MS;
  }
}

static bool on_server_frames(struct pair *pair) {
  for (;;) {
    size_t length = 0;
    if (!next_frame(&pair->from_server, &length)) return false;
    if (length == 0) return true;
    const uint8_t *frame = pair->from_server.bytes + pair->from_server.start;
    if (frame[8] == FAREWELL) {
      hear_farewell(pair);
      take(&pair->from_server, length);
      continue;
    }
    const uint32_t stream = big_endian(frame + 4);
    struct pending **link = &pair->pending;
    while (*link != NULL && (*link)->stream != stream) link = &(*link)->next;
    const bool is_answer = *link != NULL && frame[8] == RESPONSE;
    const enum answer answer =
        is_answer ? read_answer(frame + HEADER_BYTES, length - HEADER_BYTES) : DONE;
    if (answer == NOT_BEGUN || (answer == GONE && (*link)->again != NEVER)) {
      (*link)->held_ms = now_ms();
      /* A wait is unavailable for no other reason. */
      (*link)->hold_ms =
          answer == NOT_BEGUN || (*link)->again == ALWAYS ? FAREWELL_HOLD_MS : HOLD_MS;
    } else {
      if (is_answer) forget(pair, link);
      if (!append(&pair->to_client, frame, length)) return false;
    }
    take(&pair->from_server, length);
  }
}

/* Of a frame that has not gone out whole, nothing was begun. */
static void take_back(struct pair *pair) {
  const size_t unsent = length_of(&pair->to_server);
  size_t behind = 0; /* bytes of a request and those after it: they were queued in this order */
  for (struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (request->is_sent) behind += request->length;
  }
  for (struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (!request->is_sent) continue;
    behind -= request->length;
    if (behind < unsent) request->is_sent = false;
  }
}

/* The sandboxer has gone: what it may have done is given up, the rest waits for the next. */
static bool lose_server(struct pair *pair) {
  take_back(pair);
  if (pair->server >= 0) (void)close(pair->server);
  pair->server = -1;
  pair->is_left = false;
  empty(&pair->to_server);
  empty(&pair->from_server);
  for (struct pending **link = &pair->pending; *link != NULL;) {
    struct pending *request = *link;
    if (!request->is_sent || request->again != NEVER || request->held_ms != 0) {
      request->is_sent = false;
      request->held_ms = 0;
      link = &request->next;
      continue;
    }
    if (!answer_for(pair, request, false)) return false;
    forget(pair, link);
  }
  return true;
}

/*
 * Calls that nobody has taken do not wait for ever, nor longer than their callers; and an answer that
 * was no farewell after all is passed on.
 */
static bool give_up_late(struct pair *pair, int64_t now) {
  for (struct pending **link = &pair->pending; *link != NULL;) {
    struct pending *request = *link;
    const bool is_meant = request->held_ms != 0 && now - request->held_ms >= request->hold_ms;
    const bool is_untaken = !request->is_sent && request->again != ALWAYS &&
                            now - request->since_ms >= WAIT_MS;
    const bool is_late = !request->is_sent && request->timeout_ms != 0 &&
                         now - request->since_ms >= request->timeout_ms;
    if (!is_meant && !is_untaken && !is_late) {
      link = &request->next;
      continue;
    }
    if (!answer_for(pair, request, is_late)) return false;
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

/* What an event is about: a pair and its side, or one of the two descriptors that are no pair's. */
#define SERVER_SIDE 1u

static uint64_t event_of(const struct pair *pair, unsigned side) { return (uintptr_t)pair | side; }

static bool watch(const struct relay *relay, int operation, int fd, uint32_t interest, uint64_t of) {
  struct epoll_event event = {.events = interest, .data = {.u64 = of}};
  return epoll_ctl(relay->events, operation, fd, &event) == 0;
}

static bool find_server(struct relay *relay, struct pair *pair) {
  /* Where there is nobody for one connection there is nobody for the others. */
  const int64_t now = now_ms();
  if (relay->missed_ms != 0 && now - relay->missed_ms < CONNECT_INTERVAL_MS) return true;
  int fd = connect_server(relay);
  if (fd >= 0 && !watch(relay, EPOLL_CTL_ADD, fd, EPOLLIN, event_of(pair, SERVER_SIDE))) {
    (void)close(fd);
    fd = -1;
  }
  relay->missed_ms = fd < 0 ? now : 0;
  if (fd < 0) return true;
  pair->server = fd;
  pair->server_interest = EPOLLIN;
  uint8_t hello[HEADER_BYTES] = {[8] = HELLO};
  if (!append(&pair->to_server, hello, sizeof hello)) return false;
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

/* Takes the answers that a sandboxer which takes nothing more has left. False for what is none. */
static bool hear_last(struct pair *pair) {
  for (;;) {
    const size_t known = length_of(&pair->from_server);
    if (!receive(pair->server, &pair->from_server)) return true;
    if (length_of(&pair->from_server) == known) return true;
    if (!on_server_frames(pair)) return false;
  }
}

/* Events that were taken already may still mean it, so it is freed later. */
static void end_pair(struct relay *relay, struct pair *pair) {
  (void)close(pair->client);
  if (pair->server >= 0) (void)close(pair->server);
  while (pair->pending != NULL) forget(pair, &pair->pending);
  empty(&pair->from_client);
  empty(&pair->to_server);
  empty(&pair->from_server);
  empty(&pair->to_client);
  if (pair->is_waiting) relay->waiting--;
  struct pair *last = relay->pairs[--relay->count];
  relay->pairs[pair->index] = last;
  last->index = pair->index;
  pair->is_over = true;
  pair->next_over = relay->over;
  relay->over = pair;
}

static void free_over(struct relay *relay) {
  while (relay->over != NULL) {
    struct pair *pair = relay->over;
    relay->over = pair->next_over;
    free(pair);
  }
}

/* Whether something is to be done for a pair without anybody saying so. */
static bool is_waiting(const struct pair *pair) {
  if (pair->server < 0 || pair->is_left) return true;
  for (const struct pending *request = pair->pending; request != NULL; request = request->next) {
    if (request->held_ms != 0) return true;
  }
  return false;
}

static uint32_t interest(const struct buffer *in_the_way, const struct buffer *queue) {
  return (length_of(in_the_way) < QUEUE_BYTES_MAX ? (uint32_t)EPOLLIN : 0) |
         (length_of(queue) > 0 ? (uint32_t)EPOLLOUT : 0);
}

/* Has the kernel tell what the pair waits for now. */
static bool take_note(struct relay *relay, struct pair *pair) {
  const uint32_t client = interest(&pair->to_server, &pair->to_client);
  if (client != pair->client_interest &&
      !watch(relay, EPOLL_CTL_MOD, pair->client, client, event_of(pair, 0))) {
    return false;
  }
  pair->client_interest = client;
  const uint32_t server = interest(&pair->to_client, &pair->to_server);
  if (pair->server >= 0 && server != pair->server_interest &&
      !watch(relay, EPOLL_CTL_MOD, pair->server, server, event_of(pair, SERVER_SIDE))) {
    return false;
  }
  pair->server_interest = server;
  const bool waits = is_waiting(pair);
  if (waits != pair->is_waiting) relay->waiting += waits ? 1u : -1u;
  pair->is_waiting = waits;
  return true;
}

static bool exchange(struct relay *relay, struct pair *pair, uint32_t client, uint32_t server) {
  const uint32_t readable = EPOLLIN | EPOLLERR | EPOLLHUP;
  if ((client & readable) != 0) {
    if (!receive(pair->client, &pair->from_client) || !on_client_frames(pair)) return false;
    if (length_of(&pair->from_client) == 0) empty(&pair->from_client);
  }
  if (pair->server >= 0 && (server & readable) != 0) {
    const bool there = receive(pair->server, &pair->from_server);
    if (there && !on_server_frames(pair)) return false;
    if (!there && !lose_server(pair)) return false;
    if (length_of(&pair->from_server) == 0) empty(&pair->from_server);
  }
  if (pair->server < 0 && !find_server(relay, pair)) return false;
  if (!give_up_late(pair, now_ms())) return false;
  if (pair->server >= 0 && length_of(&pair->to_server) > 0 &&
      !deliver(pair->server, &pair->to_server) && !(hear_last(pair) && lose_server(pair))) {
    return false;
  }
  return length_of(&pair->to_client) == 0 || deliver(pair->client, &pair->to_client);
}

/* Does for a pair what can be done now; it ends where nothing can be done for it any more. */
static void serve_pair(struct relay *relay, struct pair *pair, uint32_t client, uint32_t server) {
  if (pair->is_over) return;
  if (!exchange(relay, pair, client, server) || !take_note(relay, pair)) end_pair(relay, pair);
}

static void begin_pair(struct relay *relay) {
  const int client = accept4(relay->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) {
    /* Out of descriptors or memory: whoever waits is taken when there are some again. */
    relay->is_full = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
    return;
  }
  struct pair *pair = relay->count < PAIRS_MAX ? calloc(1, sizeof *pair) : NULL;
  if (pair == NULL || !watch(relay, EPOLL_CTL_ADD, client, EPOLLIN, event_of(pair, 0))) {
    (void)close(client);
    free(pair);
    return;
  }
  pair->client = client;
  pair->client_interest = EPOLLIN;
  pair->server = -1;
  pair->index = relay->count;
  relay->pairs[relay->count++] = pair;
  serve_pair(relay, pair, 0, 0);
}

/* Calls that are under way are answered when the sandboxer has taken note of the end. */
static void begin_end(struct relay *relay) {
  if (relay->on_end != NULL) relay->on_end();
  (void)close(relay->until);
  (void)close(relay->listener);
  relay->until = relay->listener = -1;
  relay->ended_ms = relay->asked_ms = now_ms();
}

static bool is_over(struct relay *relay) {
  if (relay->until >= 0) return false;
  const int64_t now = now_ms();
  for (unsigned i = 0; i < relay->count; i++) {
    const struct pair *pair = relay->pairs[i];
    if (pair->pending != NULL || length_of(&pair->to_client) > 0) relay->asked_ms = now;
  }
  /* Some clients never go: those of containers that containerd has lost sight of. */
  return relay->count == 0 || now - relay->asked_ms > AFTERTHOUGHT_MS ||
         now - relay->ended_ms > AFTERWARDS_MS;
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
static int wait_ms(const struct relay *relay) {
  if (relay->waiting > 0 || relay->until < 0 || relay->is_full) return CONNECT_INTERVAL_MS;
  return relay->idle_ms > 0 && relay->count == 0 ? LOOK_MS : -1;
}

/* Looks after the pairs that wait, now and then. */
static void look_after(struct relay *relay, int64_t now) {
  if (relay->waiting == 0 || now - relay->scanned_ms < CONNECT_INTERVAL_MS) return;
  relay->scanned_ms = now;
  relay->missed_ms = 0;
  /* From the last to the first: the one that takes the place of an ended one was served. */
  for (unsigned i = relay->count; i-- > 0;) {
    if (relay->pairs[i]->is_waiting) serve_pair(relay, relay->pairs[i], 0, 0);
  }
}

/* Events that are no pair's. */
enum { LISTENER = 2, UNTIL = 4 };

static void on_event(struct relay *relay, const struct epoll_event *event) {
  if (event->data.u64 == LISTENER) {
    if (relay->listener >= 0) begin_pair(relay);
  } else if (event->data.u64 == UNTIL) {
    if (relay->until >= 0) begin_end(relay);
  } else {
    const bool is_server = (event->data.u64 & SERVER_SIDE) != 0;
    struct pair *pair = (struct pair *)(uintptr_t)(event->data.u64 & ~(uint64_t)SERVER_SIDE);
    serve_pair(relay, pair, is_server ? 0 : event->events, is_server ? event->events : 0);
  }
}

_Noreturn static void run(struct relay *relay) {
  static struct epoll_event events[EVENTS_MAX];
  relay->events = epoll_create1(EPOLL_CLOEXEC);
  if (relay->events < 0 || !watch(relay, EPOLL_CTL_ADD, relay->listener, EPOLLIN, LISTENER) ||
      !watch(relay, EPOLL_CTL_ADD, relay->until, EPOLLIN, UNTIL)) {
    _exit(1);
  }
  bool was_full = false;
  for (;;) {
    if (relay->until >= 0 && relay->is_full != was_full) {
      const uint32_t interest_now = relay->is_full ? 0 : EPOLLIN;
      (void)watch(relay, EPOLL_CTL_MOD, relay->listener, interest_now, LISTENER);
      was_full = relay->is_full;
    }
    const int ready = epoll_wait(relay->events, events, EVENTS_MAX, wait_ms(relay));
    if (ready < 0 && errno != EINTR) _exit(1);
    relay->is_full = false;
    for (int i = 0; i < ready; i++) on_event(relay, &events[i]);
    const int64_t now = now_ms();
    look_after(relay, now);
    free_over(relay);
    if (relay->until >= 0 && relay->idle_ms > 0) look_for_use(relay, now);
    if (is_over(relay)) _exit(0);
  }
}

/* Two descriptors for each connection, as far as the limit lets us. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = 2 * PAIRS_MAX + 64;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
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
  raise_descriptor_limit();
  spare_from_oom();
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
