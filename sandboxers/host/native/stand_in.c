/*
 * See stand_in.h. It knows no more of HTTP/2 than it takes to be a server that has not answered yet:
 * its settings, the acknowledgement of the client's, answers to pings. Requests are not looked at.
 *
 * Source: RFC 9113 (frames, GOAWAY); grpc-go and grpc-js repeat what a GOAWAY says was not begun.
 */
#define _GNU_SOURCE
#include "stand_in.h"
#include "no_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 1024
#define NICE (-20)
/* What the sandboxer says on standard input when it listens. */
#define LISTENING 'l'
#define CLIENTS_MAX 256u
#define HOLD_MS_MAX 86400000
/* How often it is looked whether a sandboxer has come. */
#define LOOK_MS 5
/* How long clients may take to go when they were told to. */
#define GOODBYE_MS 1000
/* What a client sends before its first frame (3.4), and what each frame begins with (4.1). */
#define PREFACE_BYTES 24u
#define HEADER_BYTES 9u
#define PING_BYTES 8u

enum frame_type { SETTINGS = 4, PING = 6, GOAWAY = 7 };
enum frame_flag { ACK = 1 };

struct client {
  int fd;
  size_t skip;     /* bytes that are not looked at: the preface, and what is in frames */
  size_t have;     /* bytes of the frame that is being read */
  uint8_t frame[HEADER_BYTES + PING_BYTES];
};

struct place {
  struct sockaddr_un address;  /* the sandboxer's */
  struct sockaddr_un own;      /* its own name for its socket while it has the place */
  struct sockaddr_un waiting;  /* and until then: that of another one may still have it */
  struct sockaddr_un passing;  /* a name on the way to the sandboxer's */
  struct stat socket;          /* its socket */
  struct stat before;          /* the sandboxer's socket, as it was when this began */
  bool had_before;
  int listener;
};

static struct client clients[CLIENTS_MAX];
static unsigned client_count;

static int64_t now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_same(const struct stat *one, const struct stat *other) {
  return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/* Removes a name of a socket, unless it is another's by now. */
static void remove_name(const char *path, const struct stat *socket) {
  struct stat now;
  if (lstat(path, &now) == 0 && is_same(&now, socket)) (void)unlink(path);
}

/* Few bytes to a socket with an empty queue: they fit, or the peer does not read and loses. */
static bool send_frame(int fd, uint8_t type, uint8_t flags, const uint8_t *data, uint8_t length) {
  uint8_t frame[HEADER_BYTES + PING_BYTES] = {0, 0, length, type, flags};
  if (length > 0) memcpy(frame + HEADER_BYTES, data, length);
  const size_t size = HEADER_BYTES + length;
  return send(fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* Answers the one frame whose beginning is read. False where the client cannot be served. */
static bool on_frame(struct client *client) {
  const uint8_t *frame = client->frame;
  const bool is_ack = (frame[4] & ACK) != 0;
  if (frame[3] == SETTINGS && !is_ack) return send_frame(client->fd, SETTINGS, ACK, NULL, 0);
  if (frame[3] != PING || is_ack) return true;
  return send_frame(client->fd, PING, ACK, frame + HEADER_BYTES, PING_BYTES);
}

static bool on_bytes(struct client *client, const uint8_t *bytes, size_t length) {
  while (length > 0) {
    if (client->skip > 0) {
      const size_t skipped = client->skip < length ? client->skip : length;
      client->skip -= skipped;
      bytes += skipped;
      length -= skipped;
      continue;
    }
    client->frame[client->have++] = *bytes++;
    length--;
    if (client->have < HEADER_BYTES) continue;
    const uint8_t *frame = client->frame;
    const size_t data = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
    const bool is_ping = frame[3] == PING && data == PING_BYTES;
    if (is_ping && client->have < HEADER_BYTES + PING_BYTES) continue;
    if (frame[3] == PING && !is_ping) return false;
    if (!on_frame(client)) return false;
    if (!is_ping) client->skip = data;
    client->have = 0;
  }
  return true;
}

static void end_client(unsigned index) {
  (void)close(clients[index].fd);
  clients[index] = clients[--client_count];
}

static void take_clients(int listener) {
  for (;;) {
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (client_count == CLIENTS_MAX || !send_frame(fd, SETTINGS, 0, NULL, 0)) {
      (void)close(fd);
      continue;
    }
    clients[client_count++] = (struct client){.fd = fd, .skip = PREFACE_BYTES};
  }
}

/* Waits for something to read, and reads it. */
static void serve_clients(int listener, int timeout_ms) {
  static struct pollfd polled[1 + CLIENTS_MAX];
  polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
  const unsigned count = client_count;
  for (unsigned i = 0; i < count; i++) {
    polled[1 + i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
  }
  if (poll(polled, 1 + count, timeout_ms) <= 0) return;
  for (unsigned i = count; i-- > 0;) {
    if (polled[1 + i].revents == 0) continue;
    static uint8_t bytes[65536];
    const ssize_t got = read(clients[i].fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0 || !on_bytes(&clients[i], bytes, (size_t)got)) end_client(i);
  }
  if (polled[0].revents != 0) take_clients(listener);
}

/* Whether somebody else has the place and takes connections there. */
static bool has_come(const struct place *place) {
  struct stat now;
  if (lstat(place->address.sun_path, &now) != 0 || is_same(&now, &place->socket)) return false;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const struct sockaddr *address = (const struct sockaddr *)&place->address;
  const bool accepts = connect(fd, address, sizeof place->address) == 0;
  (void)close(fd);
  return accepts;
}

/* Gives the socket the sandboxer's name as well, in one step. */
static bool take_place(const struct place *place) {
  struct stat now;
  /* Somebody else may have come already. */
  if (lstat(place->address.sun_path, &now) == 0 && !is_same(&now, &place->before)) return false;
  (void)unlink(place->passing.sun_path);
  return link(place->waiting.sun_path, place->passing.sun_path) == 0 &&
         rename(place->waiting.sun_path, place->own.sun_path) == 0 &&
         rename(place->passing.sun_path, place->address.sun_path) == 0;
}

/* Tells all clients that nothing was begun, and waits a moment until they have gone. */
static void say_goodbye(int listener) {
  static const uint8_t NOTHING_BEGUN[8] = {0}; /* last stream 0, NO_ERROR */
  take_clients(listener);
  for (unsigned i = client_count; i-- > 0;) {
    if (!send_frame(clients[i].fd, GOAWAY, 0, NOTHING_BEGUN, sizeof NOTHING_BEGUN)) {
      end_client(i);
      continue;
    }
    (void)shutdown(clients[i].fd, SHUT_WR);
  }
  const int64_t end = now_ms() + GOODBYE_MS;
  while (client_count > 0 && now_ms() < end) serve_clients(-1, LOOK_MS);
}

static void stand_in(const struct place *place, int64_t hold_ms) {
  const int64_t end = now_ms() + hold_ms;
  while (now_ms() < end && !has_come(place)) serve_clients(place->listener, LOOK_MS);
  /* Where nobody has come, nobody is to be kept waiting from now on. */
  remove_name(place->address.sun_path, &place->socket);
  say_goodbye(place->listener);
}

static bool say(const char *line) {
  return write(STDOUT_FILENO, line, strlen(line)) == (ssize_t)strlen(line);
}

/*
 * True when the sandboxer has gone, or has left its place and ends within the time it said; false when
 * it does not need this any more, or never listened.
 */
static bool wait_for_end(struct place *place, int64_t *leave_ms) {
  for (;;) {
    char word;
    const ssize_t got = read(STDIN_FILENO, &word, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 && place->had_before;
    if (word >= '0' && word <= '9' && *leave_ms <= HOLD_MS_MAX) {
      *leave_ms = *leave_ms * 10 + (word - '0');
      continue;
    }
    if (word != LISTENING) return false;
    place->had_before = lstat(place->address.sun_path, &place->before) == 0;
    if (!say("noted\n")) return false;
  }
}

static bool set_path(struct sockaddr_un *address, const char *path, const char *ending) {
  address->sun_family = AF_UNIX;
  const int length = snprintf(address->sun_path, sizeof address->sun_path, "%s%s", path, ending);
  return length > 0 && (size_t)length < sizeof address->sun_path;
}

static const char *open_place(struct place *place, const char *path) {
  if (path[0] != '/' || !set_path(&place->address, path, "") ||
      !set_path(&place->own, path, ".stand-in") || !set_path(&place->waiting, path, ".waiting") ||
      !set_path(&place->passing, path, ".passing")) {
    errno = ENAMETOOLONG;
    return "cannot use the path of the socket";
  }
  /* One of an earlier stand-in, which knows its socket by more than its name. */
  (void)unlink(place->waiting.sun_path);
  (void)umask(0177);
  place->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const struct sockaddr *waiting = (const struct sockaddr *)&place->waiting;
  if (place->listener < 0 || bind(place->listener, waiting, sizeof place->waiting) != 0 ||
      listen(place->listener, BACKLOG) != 0 ||
      lstat(place->waiting.sun_path, &place->socket) != 0) {
    return "cannot make a socket beside the sandboxer's";
  }
  return NULL;
}

const char *stand_in_run(int argc, char **argv) {
  static struct place place;
  char *rest = NULL;
  const long hold_ms = argc == 3 ? strtol(argv[2], &rest, 10) : 0;
  if (hold_ms < 1 || hold_ms > HOLD_MS_MAX || *rest != '\0') {
    errno = EINVAL;
    return "expected a path and a number of milliseconds";
  }
  if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0) return "cannot close files";
  (void)setsid(); /* fails only where it leads a session already */
  (void)prctl(PR_SET_NAME, "quasaur-standin", 0, 0, 0);
  (void)signal(SIGHUP, SIG_IGN);
  if (chdir("/") != 0) return "cannot enter /";
  const char *problem = open_place(&place, argv[1]);
  if (problem != NULL) return problem;
  spare_from_oom();
  /* The sooner it has the place of one that was killed, the fewer callers are refused. */
  (void)setpriority(PRIO_PROCESS, 0, NICE);
  if (!give_up_rights()) return "cannot give up rights";
  if (!say("ready\n")) return "cannot tell that it is ready";
  int64_t leave_ms = 0;
  const bool has_gone = wait_for_end(&place, &leave_ms);
  (void)close_standard_streams();
  if (has_gone && take_place(&place)) stand_in(&place, hold_ms + leave_ms);
  remove_name(place.own.sun_path, &place.socket);
  remove_name(place.waiting.sun_path, &place.socket);
  remove_name(place.passing.sun_path, &place.socket);
  return NULL;
}
