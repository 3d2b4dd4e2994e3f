/* Questions that are asked at a socket, and whose answers are kept for somebody who is not there. */
#ifndef QUASAUR_HOST_ANSWERS_H
#define QUASAUR_HOST_ANSWERS_H

/*
 * Asks at a unix socket; nothing follows the request, so who answers closes the connection then. The
 * connection, or -1.
 */
int host_ask(const char *socket_path, const char *request);

/* Writes what has been answered to a file, whole or not at all. Never waits. */
void host_keep_answer(int connection, const char *path);

#endif
