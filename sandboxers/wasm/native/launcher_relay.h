/*
 * The relay of a pod's task calls. containerd keeps one connection for each container and gives the
 * container up when it breaks; so that connection ends here, in a process that lives as long as the
 * pod, and not in the sandboxer, which may be restarted.
 */
#ifndef QUASAUR_LAUNCHER_RELAY_H
#define QUASAUR_LAUNCHER_RELAY_H

/*
 * Forks a process that takes connections on `listener` and passes their ttrpc frames on to whoever
 * listens at `directory`/`file`, for as long as this process lives, and until what was asked by then
 * is answered. Returns 0, or -1 with errno.
 */
int launcher_fork_relay(int listener, int directory, const char *file);

#endif
