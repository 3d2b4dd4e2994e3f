/*
 * Stands in for a sandboxer at the socket of its Sandbox API while none serves. A gRPC client whose
 * connection is refused once does not try again for a second and fails all calls until then; so while
 * a sandboxer is being restarted its clients are let in here, and kept waiting. When the next one
 * serves they are told that nothing they asked for was begun, and to ask again: HTTP/2 has a frame
 * for that, on which they repeat their calls by themselves.
 */
#ifndef QUASAUR_STAND_IN_H
#define QUASAUR_STAND_IN_H

/*
 * The verb `stand-in PATH HOLD_MS` of a launcher. It says "ready" on standard output. On standard
 * input it is told that the sandboxer listens at PATH ("l", which it answers with "noted"), or that it
 * is not needed any more (any other byte but a digit). When that input ends the sandboxer is gone, and
 * it takes the place at PATH for HOLD_MS at most; and for as many milliseconds more as digits have
 * said, which is how long a sandboxer that leaves may still take to end. As long as it has the place,
 * the file PATH.stand-in is the same socket; before that it is called PATH.waiting.
 *
 * Returns NULL when it is done, or what went wrong, with errno.
 */
const char *stand_in_run(int argc, char **argv);

#endif
