/*
 * `quasaur-launcher compile`: machine code for a WebAssembly module, made by WasmEdge's compiler.
 *
 * Two processes. The parent confines itself, starts the child, waits, and says what became of it.
 * The child gives up its rights and only then reads the module, compiles it and writes the library
 * to standard output. Both die with who started them.
 *
 * The engine is opened by dlopen(3), so that the other subcommands do not load LLVM. The functions
 * and their types are those of wasmedge/wasmedge_configure.h, wasmedge_compiler.h and
 * wasmedge_basic.h of WasmEdge 0.17; 0.14 has the same.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENGINE "libwasmedge.so.0"
/* The compiler's work is never urgent. */
#define NICE 19
#define LIBRARY "module.so"
#define MIB (1ull << 20)
/* A child that ends by a signal handler adds the signal's number to this. */
#define SIGNAL_STATUS 128

typedef struct {
  uint32_t code;
} result;

typedef struct {
  uint32_t length;
  const uint8_t *bytes;
} bytes;

/* enum WasmEdge_CompilerOutputFormat: a shared library of the system's own format. */
#define OUTPUT_FORMAT_NATIVE 0

static struct {
  void *library;
  void (*log_off)(void);
  void *(*configure_create)(void);
  void (*set_format)(void *configure, int format);
  void (*set_level)(void *configure, int level);
  void (*set_interruptible)(void *configure, bool interruptible);
  void *(*compiler_create)(const void *configure);
  result (*compile)(void *compiler, bytes module, const char *path);
  const char *(*message)(result code);
} engine;

/* What the command line says. */
struct options {
  unsigned long long level;
  unsigned long long interruptible;
  unsigned long long module_bytes;
  unsigned long long library_bytes;
  unsigned long long memory_bytes;
  unsigned long long cpu_seconds;
};

static bool parse(int argc, char **argv, struct options *options) {
  const struct {
    const char *name;
    unsigned long long *value;
    unsigned long long min, max;
  } known[] = {
      {"--optimize=", &options->level, 0, 3},
      {"--interruptible=", &options->interruptible, 0, 1},
      {"--module-bytes-max=", &options->module_bytes, 1, 1024 * MIB},
      {"--library-bytes-max=", &options->library_bytes, 1, 4096 * MIB},
      {"--memory-bytes-max=", &options->memory_bytes, 64 * MIB, 65536 * MIB},
      {"--cpu-seconds-max=", &options->cpu_seconds, 1, 86400},
  };
  for (int i = 1; i < argc; i++) {
    bool good = false;
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
      const size_t length = strlen(known[k].name);
      if (strncmp(argv[i], known[k].name, length) != 0) continue;
      const char *text = argv[i] + length;
      char *end = NULL;
      errno = 0;
      const unsigned long long value = strtoull(text, &end, 10);
      good = *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 &&
             value >= known[k].min && value <= known[k].max;
      if (good) *known[k].value = value;
    }
    if (good) continue;
    launcher_say("compile: unknown or bad argument \"%.100s\"", argv[i]);
    return false;
  }
  return true;
}

static bool open_engine(void) {
  engine.library = dlopen(ENGINE, RTLD_NOW | RTLD_LOCAL);
  if (engine.library == NULL) {
    launcher_say("cannot open the compiler: %s", dlerror());
    return false;
  }
  const struct {
    const char *name;
    void *slot;
  } symbols[] = {
      {"WasmEdge_LogOff", &engine.log_off},
      {"WasmEdge_ConfigureCreate", &engine.configure_create},
      {"WasmEdge_ConfigureCompilerSetOutputFormat", &engine.set_format},
      {"WasmEdge_ConfigureCompilerSetOptimizationLevel", &engine.set_level},
      {"WasmEdge_ConfigureCompilerSetInterruptible", &engine.set_interruptible},
      {"WasmEdge_CompilerCreate", &engine.compiler_create},
      {"WasmEdge_CompilerCompileFromBytes", &engine.compile},
      {"WasmEdge_ResultGetMessage", &engine.message},
  };
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
    void *address = dlsym(engine.library, symbols[i].name);
    if (address == NULL) {
      launcher_say("cannot use the compiler: %s has no %s", ENGINE, symbols[i].name);
      return false;
    }
    (void)memcpy(symbols[i].slot, &address, sizeof address);
  }
  engine.log_off(); /* its log goes to standard output, which is the library's */
  return true;
}

static void on_signal(int number) { _exit(SIGNAL_STATUS + number); }

static void on_out_of_memory(void) { _exit(LAUNCHER_MEMORY); }

/* Told by LLVM before it gives up. */
static void on_fatal_error(const char *reason) {
  if (reason != NULL && strstr(reason, "out of memory") != NULL) _exit(LAUNCHER_MEMORY);
  launcher_say("the compiler gave up: %s", reason == NULL ? "no reason given" : reason);
  _exit(LAUNCHER_CRASHED);
}

/*
 * The first process of a pid namespace ignores what has no handler, also abort(3)'s signal and that
 * of the CPU limit. Without memory C++ calls its new handler, where the library has the function.
 */
static void handle_ends(void) {
  const int numbers[] = {SIGABRT, SIGXCPU, SIGXFSZ, SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  static uint8_t stack[65536];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  (void)sigaltstack(&alternate, NULL);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    (void)sigaction(numbers[i], &action, NULL);
  }
  void *(*set_new_handler)(void (*)(void)) = NULL;
  void (*install_fatal_error)(void (*)(const char *)) = NULL;
  void *address = dlsym(engine.library, "_ZSt15set_new_handlerPFvvE");
  (void)memcpy(&set_new_handler, &address, sizeof address);
  if (set_new_handler != NULL) (void)set_new_handler(on_out_of_memory);
  address = dlsym(engine.library, "LLVMInstallFatalErrorHandler");
  (void)memcpy(&install_fatal_error, &address, sizeof address);
  if (install_fatal_error != NULL) install_fatal_error(on_fatal_error);
}

/* Standard input to its end. Its memory goes with the process. */
static int read_module(const struct options *options, bytes *module) {
  size_t room = (size_t)(options->module_bytes < MIB ? options->module_bytes : MIB) + 1;
  uint8_t *content = malloc(room);
  size_t length = 0;
  while (content != NULL) {
    if (length == room) {
      if (length > options->module_bytes) break;
      room = 2 * room < options->module_bytes + 1 ? 2 * room : (size_t)options->module_bytes + 1;
      content = realloc(content, room);
      continue;
    }
    const ssize_t got = read(STDIN_FILENO, content + length, room - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      launcher_say("cannot read the module: %s", strerror(errno));
      return LAUNCHER_CANNOT;
    }
    if (got == 0) {
      *module = (bytes){(uint32_t)length, content};
      return LAUNCHER_OK;
    }
    length += (size_t)got;
  }
  if (content == NULL) return LAUNCHER_MEMORY;
  launcher_say("the module is larger than %llu bytes", options->module_bytes);
  return LAUNCHER_TOO_BIG;
}

static bool write_all(int fd, const uint8_t *content, size_t length) {
  while (length > 0) {
    const ssize_t written = write(fd, content, length);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    content += written;
    length -= (size_t)written;
  }
  return true;
}

/* Copies the library out; nothing but a regular ELF file counts as one. */
static int write_library(int output) {
  static uint8_t chunk[65536];
  const int fd = open(LIBRARY, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 64) {
    /* The engine reports success also where its linker failed, as for want of space. */
    launcher_say("the compiler wrote no library: there may be too little space for it");
    return LAUNCHER_TOO_BIG;
  }
  bool first = true;
  for (;;) {
    const ssize_t got = read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 && !first) return LAUNCHER_OK;
    if (got <= 0 || (first && memcmp(chunk, "\177ELF", 4) != 0)) {
      launcher_say("what the compiler wrote is no library");
      return LAUNCHER_CRASHED;
    }
    first = false;
    if (write_all(output, chunk, (size_t)got)) continue;
    launcher_say("cannot write the library: %s", strerror(errno));
    return LAUNCHER_CANNOT;
  }
}

static int compile_confined(const struct options *options, const struct launcher_room *room,
                            int output) {
  handle_ends();
  const int locked = launcher_lock_in(room);
  if (locked != LAUNCHER_OK) return locked;
  bytes module = {0, NULL};
  const int received = read_module(options, &module);
  if (received != LAUNCHER_OK) return received;

  void *configure = engine.configure_create();
  engine.set_format(configure, OUTPUT_FORMAT_NATIVE);
  engine.set_level(configure, (int)options->level);
  engine.set_interruptible(configure, options->interruptible != 0);
  void *compiler = engine.compiler_create(configure);
  if (compiler == NULL) {
    launcher_say("cannot use the compiler: %s was built without one", ENGINE);
    return LAUNCHER_CANNOT;
  }
  /* The engine takes an absolute path apart, and a bare name not. */
  char path[PATH_MAX];
  (void)snprintf(path, sizeof path, "%s/%s", room->directory, LIBRARY);
  const result code = engine.compile(compiler, module, path);
  if ((code.code & 0xffffff) > 1) {
    launcher_say("%s", engine.message(code));
    return LAUNCHER_REFUSED;
  }
  return write_library(output);
}

/* Says what became of the child, where it could not say it itself. */
static int report(int status, const struct options *options) {
  const int number = WIFSIGNALED(status)                      ? WTERMSIG(status)
                     : WEXITSTATUS(status) >= SIGNAL_STATUS ? WEXITSTATUS(status) - SIGNAL_STATUS
                                                              : 0;
  struct rusage usage;
  (void)getrusage(RUSAGE_CHILDREN, &usage);
  const unsigned long long seconds = (unsigned long long)(usage.ru_utime.tv_sec +
                                                          usage.ru_stime.tv_sec);
  const unsigned long long bytes_used = (unsigned long long)usage.ru_maxrss * 1024;
  int code = number == 0 ? WEXITSTATUS(status) : LAUNCHER_CRASHED;
  if (number == SIGXCPU || (number == SIGKILL && seconds >= options->cpu_seconds)) {
    code = LAUNCHER_TIME;
  } else if (number == SIGXFSZ) {
    code = LAUNCHER_TOO_BIG;
  } else if (number != 0 && bytes_used > options->memory_bytes / 8 * 7) {
    code = LAUNCHER_MEMORY;
  }
  if (code == LAUNCHER_TIME) {
    launcher_say("it takes more than %llu seconds to compile", options->cpu_seconds);
  } else if (code == LAUNCHER_MEMORY) {
    launcher_say("it takes more than %llu MiB of memory to compile", options->memory_bytes / MIB);
  } else if (number == SIGXFSZ) {
    launcher_say("its code is larger than %llu bytes", options->library_bytes);
  } else if (number == SIGKILL) {
    launcher_say("the compiler was killed"); /* by the system, for want of memory */
    code = LAUNCHER_CANNOT;
  } else if (number != 0) {
    launcher_say("the compiler crashed: %s", strsignal(number));
  }
  return code;
}

/* So that nothing of who started us is left: descriptors, and a life longer than theirs. */
static bool detach(void) {
  const pid_t parent = getppid();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return false;
  if (close_range(3, ~0U, 0) != 0) return false;
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
  (void)signal(SIGPIPE, SIG_IGN); /* a write tells */
  return setpriority(PRIO_PROCESS, 0, NICE) == 0;
}

/* When memory is short, this goes first. */
static void volunteer_for_oom(void) {
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t written = write(fd, "1000", 4);
  (void)written; /* it has limits of its own */
  (void)close(fd);
}

int launcher_compile(int argc, char **argv) {
  struct options options = {
      .level = 2,
      .module_bytes = 256 * MIB,
      .library_bytes = 512 * MIB,
      .memory_bytes = 2048 * MIB,
      .cpu_seconds = 300,
  };
  if (!parse(argc, argv, &options)) return LAUNCHER_USAGE;
  if (!detach()) {
    launcher_say("cannot confine the compiler: %s", strerror(errno));
    return LAUNCHER_CANNOT;
  }
  volunteer_for_oom();
  /* Fewer heaps take less address space, and the compiler has one busy thread. */
  (void)mallopt(M_ARENA_MAX, 2);
  if (!open_engine()) return LAUNCHER_CANNOT;
  struct launcher_room room = {
      .scratch_bytes = 2 * options.library_bytes, /* an object file, and the library made of it */
      .memory_bytes = options.memory_bytes,
      .cpu_seconds = options.cpu_seconds,
      .file_bytes = options.library_bytes,
  };
  const int made = launcher_make_room(&room);
  if (made != LAUNCHER_OK) return made;
  int life[2];
  if (pipe2(life, O_CLOEXEC) != 0) {
    launcher_say("cannot start the compiler: %s", strerror(errno));
    launcher_leave_room(&room);
    return LAUNCHER_CANNOT;
  }
  room.parent = life[0];
  const pid_t child = fork();
  if (child == 0) {
    if (close(life[1]) != 0) _exit(LAUNCHER_CANNOT);
    /* What the engine prints in spite of all must not get into the library. */
    const int output = dup(STDOUT_FILENO);
    if (output < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) _exit(LAUNCHER_CANNOT);
    _exit(compile_confined(&options, &room, output));
  }
  /* Only the child reads and writes: what it leaves open is closed when it ends. */
  (void)close(STDIN_FILENO);
  (void)close(STDOUT_FILENO);
  (void)close(life[0]);
  int status = 0;
  int code = LAUNCHER_CANNOT;
  if (child < 0) {
    launcher_say("cannot start the compiler: %s", strerror(errno));
  } else {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    code = report(status, &options);
  }
  launcher_leave_room(&room);
  return code;
}
