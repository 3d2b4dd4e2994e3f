/*
 * For the small processes that outlive a sandboxer (relay.c, stand_in.c): they read and write sockets
 * that they have already, and have no use for any right.
 */
#ifndef QUASAUR_NO_RIGHTS_H
#define QUASAUR_NO_RIGHTS_H

#include <stdbool.h>

/* Has the kernel end other processes first when memory is short, where this one may ask for it. */
void spare_from_oom(void);

/* Puts /dev/null in the place of the standard streams. */
bool close_standard_streams(void);

/* Gives up all capabilities, and the ways to new ones, for good. */
bool give_up_rights(void);

#endif
