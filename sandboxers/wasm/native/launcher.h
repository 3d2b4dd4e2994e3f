/*
 * quasaur-launcher: the one executable that the wasm sandboxer may spawn. It starts nothing but what
 * its subcommands below say, and each of them gives up rights before it touches what is untrusted.
 *
 * A subcommand gets its name as argv[0] and its own arguments behind it, as main() would. What it
 * returns is the exit status. What went wrong is one line on standard error, the last that is
 * written there.
 */
#ifndef QUASAUR_LAUNCHER_H
#define QUASAUR_LAUNCHER_H

/* Exit statuses that all subcommands share. */
enum {
  LAUNCHER_OK = 0,
  LAUNCHER_USAGE = 2,   /* unknown subcommand or argument */
  LAUNCHER_CANNOT = 3,  /* this host does not allow or have what is needed */
  LAUNCHER_REFUSED = 4, /* `compile`: the module cannot be compiled; the line says why */
  LAUNCHER_TIME = 5,    /* `compile`: it took too much CPU time */
  LAUNCHER_MEMORY = 6,  /* `compile`: it took too much memory */
  LAUNCHER_CRASHED = 7, /* `compile`: the compiler broke down over the module */
  LAUNCHER_TOO_BIG = 8  /* `compile`: module or library are larger than allowed */
};

/* Compiles the module on standard input and writes the library to standard output. */
int launcher_compile(int argc, char **argv);

/* Starts the runtime process of one pod. */
int launcher_pod(int argc, char **argv);

/* Writes one line to standard error; for the format see printf(3). */
void launcher_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Where and how `compile` lets the compiler work. launcher_confine.c: both return LAUNCHER_OK, or
 * the exit status after they have said why.
 */
struct launcher_room {
  unsigned long long scratch_bytes; /* most bytes that its files may take together */
  unsigned long long memory_bytes;  /* most private memory */
  unsigned long long cpu_seconds;   /* most CPU time */
  unsigned long long file_bytes;    /* most bytes of one file */
  int parent;                       /* a pipe whose other end only the parent holds */
  char directory[64];               /* out: the one writable directory */
  int is_private;                   /* out: whether that is a file system of its own */
};

/*
 * In the parent: namespaces of its own, and a root directory that holds nothing but an empty,
 * limited, writable file system. As root all of it, or failure; otherwise as much as is allowed.
 */
int launcher_make_room(struct launcher_room *room);

/* Removes what launcher_make_room made outside of a namespace, with the files in it. */
void launcher_leave_room(const struct launcher_room *room);

/*
 * In the child that works: limits, no user, no capabilities, and no system call but those that
 * computing and writing files take.
 */
int launcher_lock_in(const struct launcher_room *room);

#endif
