/* Tap devices of a VMM, made in the network namespace that it has to itself. */
#ifndef QUASAUR_HOST_TAPS_H
#define QUASAUR_HOST_TAPS_H

#define TAPS_MAX 8
/* The descriptors of taps are always the same, so that command lines are too. */
#define TAP_FIRST_FD 10

/* Makes tap0, tap1 ... and leaves them open as TAP_FIRST_FD and following. An exit status. */
int host_open_taps(unsigned count);

#endif
