/* The verb `stand-in`: see stand_in.h. */
#define _GNU_SOURCE
#include "stand_in.h"

#include "launcher.h"

int host_stand_in(int argc, char **argv) {
  const char *problem = stand_in_run(argc, argv);
  return problem == NULL ? 0 : host_fail_errno("cannot stand in: %s", problem);
}
