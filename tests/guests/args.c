/* Prints its arguments and environment, one a line, then exits with the code in EXIT_CODE. */
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

int main(int argc, char **argv) {
  for (int i = 0; i < argc; i++) printf("arg %s\n", argv[i]);
  for (char **entry = environ; entry != NULL && *entry != NULL; entry++) printf("env %s\n", *entry);
  fflush(stdout);
  const char *code = getenv("EXIT_CODE");
  return code == NULL ? 0 : atoi(code);
}
