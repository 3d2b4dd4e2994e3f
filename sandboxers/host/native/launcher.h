/*
 * quasaur-host-launcher: the one executable by which a sandboxer without FFI does what takes system
 * calls, or paths below /proc, /sys and /dev. It trusts who starts it, and nobody else: what it reads
 * of guests, VMMs or images is checked here.
 *
 * A verb gets its name as argv[0] and its own arguments behind it, as main() would. What it returns
 * is the exit status: 0, or one that host_fail() gave.
 */
#ifndef QUASAUR_HOST_LAUNCHER_H
#define QUASAUR_HOST_LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What kind of failure it was: the numbers of google.rpc.Code. Exit status: 64 and the number. */
enum host_code {
  CODE_INVALID_ARGUMENT = 3,
  CODE_DEADLINE_EXCEEDED = 4,
  CODE_NOT_FOUND = 5,
  CODE_ALREADY_EXISTS = 6,
  CODE_PERMISSION_DENIED = 7,
  CODE_RESOURCE_EXHAUSTED = 8,
  CODE_FAILED_PRECONDITION = 9,
  CODE_INTERNAL = 13,
};

#define HOST_PATH_BYTES_MAX 4096
#define CAPABILITY_LAST 63

/* Writes one line to standard error, the code's name first; returns the exit status for it. */
int host_fail(enum host_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a system call that failed with errno, whose name comes last. */
int host_fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Where failures are told; standard error unless changed. */
extern int host_error_fd;

/* Reads a whole decimal number. False for anything else, and beyond the most. */
bool host_parse_number(const char *text, uint64_t most, uint64_t *number);

/* Whether a path is absolute, fits, and has no "." or ".." and no empty part in it. */
bool host_is_plain_path(const char *path);

/*
 * Looks whether a program is one that root owns, and nobody else can write to it or replace it; says
 * why not. 0, or an exit status. The second also takes this launcher itself, and programs below
 * directories such as /tmp.
 */
int host_check_program(const char *program);
int host_check_own_program(const char *program);

/* Reads a file of at most size - 1 bytes and ends it with NUL. Its length, or -1 with errno. */
long host_read_file(const char *path, char *text, size_t size);

/* Writes a text with one write(2). 0, or -1 with errno. */
int host_write_file(const char *path, const char *text);

/* When a process started, in clock ticks (proc_pid_stat(5)); 0 where it has ended. */
uint64_t host_start_time(int pid);

/*
 * Takes all capabilities but those of the mask from whatever this process executes, for good; it
 * still has them itself. -1 with errno.
 */
int host_bound_capabilities(uint64_t mask);

/*
 * Takes all capabilities from this process for good but those of the mask (a bit for each), also
 * from what it executes. -1 with errno.
 */
int host_keep_capabilities(uint64_t mask);

/* Tells on standard output that what was asked for begins now: see resident.ts. */
bool host_say_started(void);

/*
 * Forks a process that kills this one as soon as its present parent ends, however that ends; it
 * itself ends with this one. -1 with errno.
 */
int host_die_with_parent(void);

/* Joins a cgroup in every hierarchy; makes it where it is missing. 0, or an exit status. */
int host_join_cgroup(const char *path, int pid);

/* The verbs. */
int host_vmm(int argc, char **argv);
int host_netns(int argc, char **argv);
int host_netns_mask(int argc, char **argv);
int host_bounded(int argc, char **argv);
int host_mount(int argc, char **argv);
int host_umount(int argc, char **argv);
int host_bind(int argc, char **argv);
int host_share(int argc, char **argv);
int host_identity(int argc, char **argv);
int host_alive(int argc, char **argv);
int host_signal(int argc, char **argv);
int host_kill(int argc, char **argv);
int host_wait(int argc, char **argv);
int host_process_usage(int argc, char **argv);
int host_cgroup_join(int argc, char **argv);
int host_cgroup_remove(int argc, char **argv);
int host_cgroup_limits(int argc, char **argv);
int host_cgroup_usage(int argc, char **argv);
int host_facts(int argc, char **argv);
int host_tsc(int argc, char **argv);
int host_tree_size(int argc, char **argv);
int host_relay(int argc, char **argv);
int host_fifos(int argc, char **argv);
int host_stdio(int argc, char **argv);
int host_mkfifo(int argc, char **argv);
int host_terminal(int argc, char **argv);
int host_sentry_exec(int argc, char **argv);
int host_stand_in(int argc, char **argv);
int host_unpack(int argc, char **argv);
int host_overlay_uses(int argc, char **argv);

#endif
