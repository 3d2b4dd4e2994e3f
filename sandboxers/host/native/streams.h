/* Opening what the standard streams of a process are connected with. */
#ifndef QUASAUR_HOST_STREAMS_H
#define QUASAUR_HOST_STREAMS_H

/*
 * Opens one of the streams 0 to 2 at a path ("-": /dev/null), never waiting for anybody; the
 * descriptor does not block and is closed at exec. An input is opened for reading. An output that is
 * a FIFO is opened for both, so that it is open at once and no write ever finds it broken; another
 * file is appended to. Returns an exit status.
 */
int host_open_stream(int number, const char *path, int *fd);

/* The name of a stream, for messages. */
const char *host_stream_name(int number);

/* Makes reads and writes wait. -1 with errno. */
int host_make_blocking(int fd);

#endif
