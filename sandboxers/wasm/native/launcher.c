/* The launcher's main(): see launcher.h for what this is and who calls it. */
#include "launcher.h"
#include "../../host/native/stand_in.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int stand_in(int argc, char **argv);

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} SUBCOMMANDS[] = {
    {"compile", launcher_compile},
    {"pod", launcher_pod},
    {"stand-in", stand_in},
};

void launcher_say(const char *format, ...) {
  char line[1024] = "quasaur-launcher: ";
  const size_t prefix = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
  va_end(arguments);
  /* One line, whatever a module made the compiler say. */
  for (char *at = line; *at != '\0'; at++) {
    if ((unsigned char)*at < ' ') *at = ' ';
  }
  strcat(line, "\n");
  const ssize_t written = write(STDERR_FILENO, line, strlen(line));
  (void)written; /* nobody is left to tell */
}

static int stand_in(int argc, char **argv) {
  const char *problem = stand_in_run(argc, argv);
  if (problem == NULL) return LAUNCHER_OK;
  launcher_say("cannot stand in: %s: %s", problem, strerror(errno));
  return LAUNCHER_CANNOT;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  for (size_t i = 0; i < sizeof SUBCOMMANDS / sizeof SUBCOMMANDS[0]; i++) {
    if (strcmp(name, SUBCOMMANDS[i].name) == 0) return SUBCOMMANDS[i].run(argc - 1, argv + 1);
  }
  launcher_say("unknown subcommand \"%.100s\": it is started by the wasm sandboxer, not by people",
               name);
  return LAUNCHER_USAGE;
}
