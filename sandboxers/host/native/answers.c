/* Questions that outlive who asked them: see answers.h, and fifos.c for who keeps them. */
#define _GNU_SOURCE
#include "answers.h"
#include "launcher.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX 4096
/* A sandbox that does not accept a connection holds up all others for so long. */
#define CONNECT_SECONDS_MAX 1

int host_ask(const char *socket_path, const char *request) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const size_t length = strlen(request);
  const size_t path_length = strlen(socket_path);
  if (path_length >= sizeof address.sun_path) return -1;
  memcpy(address.sun_path, socket_path, path_length);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const struct timeval patience = {.tv_sec = CONNECT_SECONDS_MAX};
  if (fd < 0) return -1;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
      connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
      send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length || shutdown(fd, SHUT_WR) != 0) {
    (void)close(fd);
    return -1;
  }
  return fd;
}

void host_keep_answer(int connection, const char *path) {
  char answer[ANSWER_BYTES_MAX];
  char temporary[HOST_PATH_BYTES_MAX + sizeof ".new"];
  size_t length = 0;
  ssize_t got = 0;
  while (length < sizeof answer) {
    got = recv(connection, answer + length, sizeof answer - length, MSG_DONTWAIT);
    if (got <= 0) break;
    length += (size_t)got;
  }
  /* Only an answer that has come to its end. */
  if (got != 0 || length == 0) return;
  (void)snprintf(temporary, sizeof temporary, "%s.new", path);
  const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const bool is_whole = write(fd, answer, length) == (ssize_t)length;
  (void)close(fd);
  if (!is_whole || rename(temporary, path) != 0) (void)unlink(temporary);
}
