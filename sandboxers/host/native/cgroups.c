/*
 * Verbs about cgroups, of version 1 and 2 alike. A cgroup is named by its path below the hierarchies'
 * roots; where those are mounted is read from the mount table.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TABLE_BYTES_MAX (8u << 20)
#define FILE_BYTES_MAX 65536
#define HIERARCHIES_MAX 32
#define DEPTH_MAX 16
#define CHILDREN_MAX 4096
/* How long processes that are just ending may take to leave a cgroup. */
#define EMPTY_MS 3000
#define INTERVAL_MS 10
/* Our own directory, which goes with the last cgroup in it. */
#define OWN_NAME "/quasaur"

/* The controllers that a process is put under. */
static const char *const CONTROLLERS[] = {"cpu",    "cpuacct", "cpuset",  "memory",
                                          "pids",   "blkio",   "hugetlb", "io"};
#define CONTROLLER_COUNT (sizeof CONTROLLERS / sizeof CONTROLLERS[0])

struct hierarchy {
  int version;
  char root[HOST_PATH_BYTES_MAX];
  bool has[CONTROLLER_COUNT];
};

static struct hierarchy hierarchies[HIERARCHIES_MAX];
static size_t hierarchy_count;
/* Whether those count too that no process is put under here: others may have made cgroups there. */
static bool wants_all;

static bool has_word(const char *list, const char *word, const char *separators) {
  const size_t length = strlen(word);
  while (*list != '\0') {
    const size_t here = strcspn(list, separators);
    if (here == length && strncmp(list, word, length) == 0) return true;
    list += here;
    list += strspn(list, separators);
  }
  return false;
}

/* The kernel writes space, tab, line feed and backslash as octal. */
static void unescape(char *text) {
  char *to = text;
  for (const char *from = text; *from != '\0';) {
    if (from[0] == '\\' && from[1] != '\0' && from[2] != '\0' && from[3] != '\0') {
      *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
      from += 4;
    } else {
      *to++ = *from++;
    }
  }
  *to = '\0';
}

/* Whether a hierarchy is used, and not one that was seen at another mount point. */
static bool is_new(const struct hierarchy *found) {
  bool is_used = false;
  for (size_t c = 0; c < CONTROLLER_COUNT; c++) is_used = is_used || found->has[c];
  if (!is_used) return wants_all;
  for (size_t i = 0; i < hierarchy_count; i++) {
    for (size_t c = 0; c < CONTROLLER_COUNT; c++) {
      if (found->has[c] && hierarchies[i].has[c]) return false;
    }
  }
  return true;
}

/* A line of mountinfo: `36 35 98:0 /root /mount/point opts - type source super-options`. */
static void read_mount(char *line) {
  char *right = strstr(line, " - ");
  if (right == NULL) return;
  *right = '\0';
  right += 3;
  char type[32] = "";
  char options[1024] = "";
  if (sscanf(right, "%31s %*s %1023s", type, options) != 2) return;
  const bool is_v1 = strcmp(type, "cgroup") == 0;
  if (!is_v1 && strcmp(type, "cgroup2") != 0) return;
  char *fields[5];
  char *at = line;
  for (int i = 0; i < 5; i++) {
    fields[i] = strsep(&at, " ");
    if (fields[i] == NULL) return;
  }
  struct hierarchy *found = &hierarchies[hierarchy_count];
  memset(found, 0, sizeof *found);
  found->version = is_v1 ? 1 : 2;
  unescape(fields[4]);
  if (snprintf(found->root, sizeof found->root, "%s", fields[4]) >= (int)sizeof found->root) return;
  char enabled[FILE_BYTES_MAX] = "";
  if (!is_v1) {
    char path[HOST_PATH_BYTES_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/cgroup.controllers", found->root);
    if (host_read_file(path, enabled, sizeof enabled) < 0) return;
  }
  for (size_t c = 0; c < CONTROLLER_COUNT; c++) {
    found->has[c] = has_word(is_v1 ? options : enabled, CONTROLLERS[c], is_v1 ? "," : " \n");
  }
  /* Version 2 counts CPU time and input and output under other names. */
  if (is_new(found)) hierarchy_count++;
}

static int find_hierarchies(void) {
  char *table = malloc(TABLE_BYTES_MAX);
  if (table == NULL) return host_fail_errno("cannot read the mount table");
  if (host_read_file("/proc/self/mountinfo", table, TABLE_BYTES_MAX) < 0) {
    free(table);
    return host_fail_errno("cannot read the mount table");
  }
  char *rest = table;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    if (hierarchy_count < HIERARCHIES_MAX) read_mount(line);
  }
  free(table);
  return 0;
}

static bool controls(const struct hierarchy *hierarchy, const char *name) {
  for (size_t c = 0; c < CONTROLLER_COUNT; c++) {
    if (strcmp(CONTROLLERS[c], name) == 0) return hierarchy->has[c];
  }
  return false;
}

/* root + cgroup + "/" + file. False where that is too long. */
static bool path_of(const struct hierarchy *hierarchy, const char *cgroup, const char *file,
                    char path[HOST_PATH_BYTES_MAX]) {
  const char *slash = file[0] == '\0' ? "" : "/";
  return snprintf(path, HOST_PATH_BYTES_MAX, "%s%s%s%s", hierarchy->root, cgroup, slash, file) <
         HOST_PATH_BYTES_MAX;
}

static long read_of(const struct hierarchy *hierarchy, const char *cgroup, const char *file,
                    char text[FILE_BYTES_MAX]) {
  char path[HOST_PATH_BYTES_MAX];
  if (!path_of(hierarchy, cgroup, file, path)) return -1;
  return host_read_file(path, text, FILE_BYTES_MAX);
}

static int write_of(const struct hierarchy *hierarchy, const char *cgroup, const char *file,
                    const char *text) {
  char path[HOST_PATH_BYTES_MAX];
  if (!path_of(hierarchy, cgroup, file, path)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return host_write_file(path, text);
}

/* A cpuset without CPUs and memory nodes takes nobody in: it gets those of the one above. */
static void fill_cpuset(const struct hierarchy *hierarchy, const char *above, const char *cgroup) {
  static const char *const FILES[] = {"cpuset.cpus", "cpuset.mems"};
  for (size_t i = 0; i < 2; i++) {
    char text[FILE_BYTES_MAX];
    if (read_of(hierarchy, cgroup, FILES[i], text) < 0 || text[0] != '\n') continue;
    if (read_of(hierarchy, above, FILES[i], text) < 0) continue;
    (void)write_of(hierarchy, cgroup, FILES[i], text);
  }
}

/* In version 2 a cgroup has the controllers that the one above hands down. */
static void hand_down(const struct hierarchy *hierarchy, const char *above) {
  for (size_t c = 0; c < CONTROLLER_COUNT; c++) {
    if (!hierarchy->has[c]) continue;
    char text[32];
    (void)snprintf(text, sizeof text, "+%s", CONTROLLERS[c]);
    /* Refused where somebody else decides that; what is then missing is told when it is needed. */
    (void)write_of(hierarchy, above, "cgroup.subtree_control", text);
  }
}

/* Makes a cgroup with all above it. 0, or an exit status. */
static int make_in(const struct hierarchy *hierarchy, const char *cgroup) {
  char part[HOST_PATH_BYTES_MAX];
  char above[HOST_PATH_BYTES_MAX] = "";
  for (const char *end = cgroup; end != NULL && end[1] != '\0';) {
    end = strchr(end + 1, '/');
    const int length = (int)(end == NULL ? strlen(cgroup) : (size_t)(end - cgroup));
    (void)snprintf(part, sizeof part, "%.*s", length, cgroup);
    char path[HOST_PATH_BYTES_MAX];
    if (!path_of(hierarchy, part, "", path)) {
      return host_fail(CODE_INVALID_ARGUMENT, "cannot make cgroup \"%.500s\": too long", cgroup);
    }
    if (hierarchy->version == 2) hand_down(hierarchy, above);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
      return host_fail_errno("cannot make cgroup \"%.500s\"", path);
    }
    if (hierarchy->version == 1 && controls(hierarchy, "cpuset")) {
      fill_cpuset(hierarchy, above, part);
    }
    (void)snprintf(above, sizeof above, "%s", part);
  }
  return 0;
}

int host_join_cgroup(const char *cgroup, int pid) {
  int status = find_hierarchies();
  char text[32];
  (void)snprintf(text, sizeof text, "%d", pid);
  for (size_t i = 0; status == 0 && i < hierarchy_count; i++) {
    status = make_in(&hierarchies[i], cgroup);
    if (status == 0 && write_of(&hierarchies[i], cgroup, "cgroup.procs", text) != 0) {
      status = host_fail_errno("cannot move process %d into cgroup \"%.500s\" of \"%.500s\"", pid,
                               cgroup, hierarchies[i].root);
    }
  }
  return status;
}

static int check_path(const char *cgroup) {
  if (host_is_plain_path(cgroup) && cgroup[1] != '\0') return 0;
  return host_fail(CODE_INVALID_ARGUMENT, "wrong cgroup \"%.500s\": expected a path such as \"/a/b\"",
                   cgroup);
}

int host_cgroup_join(int argc, char **argv) {
  uint64_t pid = 0;
  if (argc != 3 || !host_parse_number(argv[2], INT32_MAX, &pid) || pid == 0) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a cgroup and a process id");
  }
  const int status = check_path(argv[1]);
  return status != 0 ? status : host_join_cgroup(argv[1], (int)pid);
}

/* Waits for what is just ending; all directories together wait so long. 0, or -1 with errno. */
static int remove_directory(const char *path) {
  static int waited;
  const struct timespec interval = {0, INTERVAL_MS * 1000000L};
  for (;; waited += INTERVAL_MS) {
    if (rmdir(path) == 0 || errno == ENOENT) return 0;
    if (errno != EBUSY || waited >= EMPTY_MS) return -1;
    (void)nanosleep(&interval, NULL);
  }
}

/* The cgroups below first. 0, or -1 with errno. */
static int remove_tree(const char *path, int depth) {
  if (depth > DEPTH_MAX) {
    errno = ELOOP;
    return -1;
  }
  DIR *directory = opendir(path);
  if (directory == NULL) return errno == ENOENT ? 0 : -1;
  int result = 0;
  unsigned children = 0;
  for (const struct dirent *entry; result == 0 && (entry = readdir(directory)) != NULL;) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    char child[HOST_PATH_BYTES_MAX];
    const int length = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
    if (length >= (int)sizeof child || children++ >= CHILDREN_MAX) {
      errno = ENAMETOOLONG;
      result = -1;
    } else {
      result = remove_tree(child, depth + 1);
    }
  }
  const int error = errno;
  (void)closedir(directory);
  errno = error;
  return result != 0 ? result : remove_directory(path);
}

int host_cgroup_remove(int argc, char **argv) {
  if (argc != 2) return host_fail(CODE_INVALID_ARGUMENT, "expected a cgroup");
  wants_all = true;
  int status = check_path(argv[1]);
  if (status == 0) status = find_hierarchies();
  int failed = 0;
  for (size_t i = 0; status == 0 && i < hierarchy_count; i++) {
    char path[HOST_PATH_BYTES_MAX];
    if (!path_of(&hierarchies[i], argv[1], "", path)) return host_fail_errno("path too long");
    if (remove_tree(path, 0) == 0) {
      char *slash = strrchr(path, '/');
      *slash = '\0';
      const size_t length = strlen(path);
      const size_t own = strlen(OWN_NAME);
      if (length > own && strcmp(path + length - own, OWN_NAME) == 0) (void)rmdir(path);
    } else if (failed != 0) {
      continue; /* one reason is enough */
    } else if (errno == EBUSY) {
      failed = host_fail(CODE_FAILED_PRECONDITION,
                         "cannot remove cgroup \"%.500s\": processes are in it", path);
    } else {
      failed = host_fail_errno("cannot remove cgroup \"%.500s\"", path);
    }
  }
  return status != 0 ? status : failed;
}

/* The hierarchy of a controller; NULL where there is none. */
static const struct hierarchy *hierarchy_of(const char *controller) {
  for (size_t i = 0; i < hierarchy_count; i++) {
    if (controls(&hierarchies[i], controller)) return &hierarchies[i];
  }
  return NULL;
}

struct limits {
  const char *memory;
  const char *cpu_quota;
  const char *cpu_period;
  const char *cpu_shares;
  const char *cpuset;
  const char *pids;
};

/* 0, or an exit status. */
static int set(const char *cgroup, const char *controller, const char *file_v1, const char *file_v2,
               const char *text_v1, const char *text_v2) {
  const struct hierarchy *hierarchy = hierarchy_of(controller);
  if (hierarchy == NULL) {
    return host_fail(CODE_FAILED_PRECONDITION,
                     "cannot limit cgroup \"%.500s\": this host has no %s controller", cgroup,
                     controller);
  }
  const bool is_v1 = hierarchy->version == 1;
  const char *file = is_v1 ? file_v1 : file_v2;
  const char *text = is_v1 ? text_v1 : text_v2;
  if (write_of(hierarchy, cgroup, file, text) == 0) return 0;
  return host_fail_errno("cannot limit cgroup \"%.500s\": %s to \"%.100s\"", cgroup, file, text);
}

static int set_cpu(const char *cgroup, const struct limits *limits) {
  int status = 0;
  const char *period = limits->cpu_period == NULL ? "100000" : limits->cpu_period;
  if (limits->cpu_quota != NULL || limits->cpu_period != NULL) {
    const char *quota = limits->cpu_quota == NULL ? "max" : limits->cpu_quota;
    const bool is_unlimited = quota[0] == '-' || strcmp(quota, "max") == 0;
    char both[96];
    (void)snprintf(both, sizeof both, "%.40s %.40s", is_unlimited ? "max" : quota, period);
    status = set(cgroup, "cpu", "cpu.cfs_period_us", "cpu.max", period, both);
    if (status == 0 && limits->cpu_quota != NULL) {
      status = set(cgroup, "cpu", "cpu.cfs_quota_us", "cpu.max", is_unlimited ? "-1" : quota, both);
    }
  }
  if (status == 0 && limits->cpu_shares != NULL) {
    /* 2 to 262144 become 1 to 10000, as every OCI runtime does it. */
    const unsigned long long shares = strtoull(limits->cpu_shares, NULL, 10);
    const unsigned long long bounded = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;
    char weight[32];
    (void)snprintf(weight, sizeof weight, "%llu", 1 + (bounded - 2) * 9999 / 262142);
    status = set(cgroup, "cpu", "cpu.shares", "cpu.weight", limits->cpu_shares, weight);
  }
  return status;
}

static bool is_cpu_list(const char *text) {
  return text[0] != '\0' && strspn(text, "0123456789,-") == strlen(text);
}

static bool parse_limit(struct limits *limits, char *argument) {
  const struct {
    const char *name;
    const char **value;
  } names[] = {
      {"--memory=", &limits->memory},         {"--cpu-quota=", &limits->cpu_quota},
      {"--cpu-period=", &limits->cpu_period}, {"--cpu-shares=", &limits->cpu_shares},
      {"--cpuset=", &limits->cpuset},         {"--pids=", &limits->pids},
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const size_t length = strlen(names[i].name);
    if (strncmp(argument, names[i].name, length) != 0) continue;
    const char *value = argument + length;
    *names[i].value = value;
    if (names[i].value == &limits->cpuset) return is_cpu_list(value);
    uint64_t number = 0;
    const bool is_none = names[i].value == &limits->cpu_quota && value[0] == '-';
    return host_parse_number(is_none ? value + 1 : value, INT64_MAX, &number);
  }
  return false;
}

int host_cgroup_limits(int argc, char **argv) {
  if (argc < 2) return host_fail(CODE_INVALID_ARGUMENT, "expected a cgroup and limits");
  const char *cgroup = argv[1];
  struct limits limits = {0};
  for (int i = 2; i < argc; i++) {
    if (!parse_limit(&limits, argv[i])) {
      return host_fail(CODE_INVALID_ARGUMENT, "wrong limit \"%.200s\"", argv[i]);
    }
  }
  int status = check_path(cgroup);
  if (status == 0) status = find_hierarchies();
  for (size_t i = 0; status == 0 && i < hierarchy_count; i++) {
    status = make_in(&hierarchies[i], cgroup);
  }
  if (status == 0) status = set_cpu(cgroup, &limits);
  if (status == 0 && limits.memory != NULL) {
    status = set(cgroup, "memory", "memory.limit_in_bytes", "memory.max", limits.memory,
                 limits.memory);
  }
  if (status == 0 && limits.pids != NULL) {
    status = set(cgroup, "pids", "pids.max", "pids.max", limits.pids, limits.pids);
  }
  if (status == 0 && limits.cpuset != NULL) {
    status = set(cgroup, "cpuset", "cpuset.cpus", "cpuset.cpus", limits.cpuset, limits.cpuset);
  }
  return status;
}

/* The number behind a word at the beginning of a line; false where there is none. */
static bool field_of(const char *text, const char *word, unsigned long long *value) {
  const size_t length = strlen(word);
  for (const char *line = text; line != NULL && *line != '\0';) {
    if (strncmp(line, word, length) == 0 && line[length] == ' ') {
      *value = strtoull(line + length + 1, NULL, 10);
      return true;
    }
    line = strchr(line, '\n');
    if (line != NULL) line++;
  }
  return false;
}

/* Prints the number in a file, or behind a word of it, where it is there; "max" is none. */
static void print_value(const char *cgroup, const char *controller, const char *file_v1,
                        const char *file_v2, const char *word_v1, const char *word_v2,
                        const char *name) {
  const struct hierarchy *hierarchy = hierarchy_of(controller);
  if (hierarchy == NULL) return;
  const bool is_v1 = hierarchy->version == 1;
  const char *word = is_v1 ? word_v1 : word_v2;
  char text[FILE_BYTES_MAX];
  if (read_of(hierarchy, cgroup, is_v1 ? file_v1 : file_v2, text) <= 0) return;
  unsigned long long value = 0;
  if (word != NULL) {
    if (!field_of(text, word, &value)) return;
    if (strcmp(word, "usage_usec") == 0) value *= 1000;
  } else {
    if (text[0] < '0' || text[0] > '9') return;
    value = strtoull(text, NULL, 10);
    /* What version 1 writes for no limit. */
    if (strstr(name, "limit") != NULL && value >= 1ull << 62) return;
  }
  (void)printf("%s %llu\n", name, value);
}

int host_cgroup_usage(int argc, char **argv) {
  if (argc != 2) return host_fail(CODE_INVALID_ARGUMENT, "expected a cgroup");
  const char *cgroup = argv[1];
  int status = check_path(cgroup);
  if (status == 0) status = find_hierarchies();
  if (status != 0) return status;
  const struct hierarchy *cpu = hierarchy_of("cpu");
  const bool is_v2 = cpu != NULL && cpu->version == 2;
  print_value(cgroup, is_v2 ? "cpu" : "cpuacct", "cpuacct.usage", "cpu.stat", NULL, "usage_usec",
              "cpu_ns");
  print_value(cgroup, "memory", "memory.usage_in_bytes", "memory.current", NULL, NULL,
              "memory_bytes");
  print_value(cgroup, "memory", "memory.stat", "memory.stat", "total_inactive_file",
              "inactive_file", "inactive_file_bytes");
  print_value(cgroup, "memory", "memory.limit_in_bytes", "memory.max", NULL, NULL,
              "memory_limit_bytes");
  print_value(cgroup, "memory", "memory.oom_control", "memory.events", "oom_kill", "oom_kill",
              "oom_kills");
  print_value(cgroup, "pids", "pids.current", "pids.current", NULL, NULL, "pids");
  return fflush(stdout) == 0 ? 0 : host_fail_errno("cannot write the answer");
}
