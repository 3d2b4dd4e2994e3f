// What starting a process in a container has in common, whether the container runs (enter.c) or is
// made for it (create.c). The functions of the first part are for the child only: they report what
// fails, and do not return then.
#ifndef QUASAUR_AGENT_ENTERING_H
#define QUASAUR_AGENT_ENTERING_H

#include "sys.h"

#include <linux/filter.h>
#include <sys/types.h>

#define GROUPS_MAX 1024
#define LIMITS_MAX 32
#define FILTER_BYTES_MAX (BPF_MAXINSNS * sizeof(struct sock_filter))
// Where the child has what it was given beside its streams.
#define REPORT_FD 3
#define GIVEN_FD 4

// What failed, for the message; the same numbers are in ../enter.ts.
enum step {
  STEP_DESCRIPTORS = 1,
  STEP_LIMITS,
  STEP_NAMESPACES,
  STEP_CWD,
  STEP_USER,
  STEP_CAPABILITIES,
  STEP_FILTER,
  STEP_EXECUTE,
  STEP_ROOT,
  // Beyond that: an operation of a new container, counted from here.
  STEP_OPERATIONS = 100,
};

// The order of the sets in `capabilities`: two numbers of 32 bits each, the lower bits first.
enum { SET_BOUNDING, SET_EFFECTIVE, SET_PERMITTED, SET_INHERITABLE, SET_AMBIENT, SETS };

struct entering {
  char **argv, **env;
  const char *cwd;
  int fds[3];
  // Of the agent: the child's cgroup, its end for reports, and what it gets as GIVEN_FD.
  int cgroup, report, given;
  int oom_score_adj, no_new_privileges;
  uid_t uid;
  gid_t gid;
  mode_t umask;
  gid_t groups[GROUPS_MAX];
  int group_count;
  int64_t limits[LIMITS_MAX * 3];
  int limit_count;
  uint32_t capabilities[SETS][2];
  struct sock_fprog filter;
  unsigned filter_flags;
};

// ---- in the child ----

_Noreturn void entering_fail(int step);
// Puts the descriptors in their places, and closes all others.
void entering_place(struct entering *entering);
void entering_reset_signals(void);
void entering_set_oom_score(const struct entering *entering);
void entering_set_limits(const struct entering *entering);
// Goes to the working directory; answers whether that could be done.
int entering_go_to_cwd(const struct entering *entering);
// Adds HOME where it is missing; the root is the container's by now.
void entering_add_home(struct entering *entering);
// Pipes are the user's own.
void entering_give_pipes(const struct entering *entering);
void entering_take_rights(const struct entering *entering);
void entering_set_filter(const struct entering *entering);
const char *entering_value_of(char **env, const char *name);
// Returns where the program cannot be executed, with errno.
void entering_execute(char **argv, char **env);

// ---- in the agent ----

JSValue entering_field(JSContext *ctx, JSValueConst object, const char *name);
int64_t entering_number(JSContext *ctx, JSValueConst object, const char *name, int *failed);
// Copies a list of numbers; answers how many there are.
int entering_list(JSContext *ctx, JSValueConst object, const char *name, int64_t *into,
                  int capacity, int *failed);
// Reads a process; NULL with an exception where it is not one.
struct entering *entering_read(JSContext *ctx, JSValueConst object);
void entering_free(JSContext *ctx, struct entering *entering);

#endif
