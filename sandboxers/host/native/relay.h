/*
 * The relay of task calls. containerd keeps one connection for each container and gives the container
 * up when it breaks; so that connection ends here, in a process that lives as long as the pod, or as
 * all sandboxes of a kind, and not in the sandboxer, which may be restarted.
 */
#ifndef QUASAUR_RELAY_H
#define QUASAUR_RELAY_H

struct relay_options {
  int listener;     /* takes connections, without blocking */
  int until;        /* a descriptor that is readable when the relay shall end */
  int directory;    /* with `file`: the sandboxer's socket */
  const char *file;
  int idle_ms;      /* it also ends after so long with neither clients nor a sandboxer; 0: never */
  void (*on_end)(void); /* called when it stops to listen; NULL for nothing */
};

/*
 * Passes the ttrpc frames of its clients on to whoever listens at `directory`/`file`, until it is
 * told to end and what was asked by then is answered. Gives up all rights first.
 */
_Noreturn void relay_run(const struct relay_options *options);

/*
 * Forks a relay for as long as this process lives. Returns 0, or -1 with errno.
 */
int relay_fork(int listener, int directory, const char *file);

#endif
