/*
 * `unpack`: makes the files of an image's layers below a directory.
 *
 *     quasaur-host-launcher unpack DIRECTORY
 *
 * Records come on standard input, one after the other, the lowest layer's first; see struct record.
 * The layers are a stranger's: whatever links they have, nothing is made, changed or removed outside
 * of the directory, which the kernel sees to (openat2(2), RESOLVE_IN_ROOT). How many and how large
 * files may be is for the caller to bound. An input that ends without an end record is a failure:
 * then the caller removes what is there.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_BYTES_MAX (1u << 20)
#define INPUT_BYTES (1u << 18)
#define DEPTH_MAX 256
#define UNNAMED_MAX 1000000
/* What may be kept of directories' times: a layer can have millions of them with long paths. */
#define TIMES_BYTES_MAX (64u << 20)
#define LINKS_MAX 40 /* as Linux has it */
#define MODE_MASK 07777u

/* What comes before the strings of a record; all numbers as this machine has them. */
struct record {
  uint32_t kind; /* 'f' 'd' 'l' 'h' 'c' 'b' 'p'; 'W' 'O' remove; 'L' next layer; 'E' end */
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  int64_t mtime_s;
  uint32_t mtime_ns;
  uint32_t major;
  uint32_t minor;
  uint32_t path_bytes;   /* then the path, without NUL; empty for the directory itself */
  uint32_t target_bytes; /* then what a link leads to */
  uint32_t xattr_bytes;  /* then attributes: two lengths of 32 bits, name, value */
  uint64_t size;         /* then the content of a file */
};

/* A name in a directory that this layer has made. */
struct made {
  uint64_t directory;
  uint64_t name;
};

/* A directory whose time is set when its layer is done: what is made in it changes it. */
struct timed {
  char *path;
  struct timespec mtime;
};

static int root = -1;
static bool is_root_user;
static char *path, *target, *xattrs;
static char input[INPUT_BYTES];
static size_t input_at, input_end;

static struct made *set;
static size_t set_size, set_count;
static struct timed *times;
static size_t times_size, times_count, times_bytes;

/* Directories that no record has named: who counts records does not count them. */
static size_t unnamed_count;

static char parent_path[HOST_PATH_BYTES_MAX];
static int parent_fd = -1;

/* --- Reading ----------------------------------------------------------------------------------- */

static bool fill(void) {
  ssize_t got;
  do got = read(STDIN_FILENO, input, sizeof input);
  while (got < 0 && errno == EINTR);
  input_at = 0;
  input_end = got > 0 ? (size_t)got : 0;
  return got > 0;
}

static bool take(void *to, size_t length) {
  char *at = to;
  while (length > 0) {
    if (input_at == input_end && !fill()) return false;
    const size_t rest = input_end - input_at;
    const size_t part = length < rest ? length : rest;
    memcpy(at, input + input_at, part);
    at += part;
    input_at += part;
    length -= part;
  }
  return true;
}

/* A path without "." and "..", without empty parts; relative, or empty where that is allowed. */
static bool is_inner_path(const char *text, size_t length) {
  if (length >= HOST_PATH_BYTES_MAX || memchr(text, '\0', length) != NULL) return false;
  if (length == 0) return true;
  char absolute[HOST_PATH_BYTES_MAX + 1] = "/";
  if (length + 2 > HOST_PATH_BYTES_MAX) return false;
  memcpy(absolute + 1, text, length);
  absolute[length + 1] = '\0';
  return text[length - 1] != '/' && host_is_plain_path(absolute);
}

/* 0, or an exit status. */
static int read_strings(const struct record *record) {
  if (record->path_bytes >= HOST_PATH_BYTES_MAX || record->target_bytes >= HOST_PATH_BYTES_MAX ||
      record->xattr_bytes > XATTR_BYTES_MAX) {
    return host_fail(CODE_INVALID_ARGUMENT, "a record is too long");
  }
  if (!take(path, record->path_bytes) || !take(target, record->target_bytes) ||
      !take(xattrs, record->xattr_bytes)) {
    return host_fail(CODE_INVALID_ARGUMENT, "the input ends in a record");
  }
  path[record->path_bytes] = '\0';
  target[record->target_bytes] = '\0';
  if (!is_inner_path(path, record->path_bytes)) {
    return host_fail(CODE_INVALID_ARGUMENT, "path \"%.500s\" is not allowed", path);
  }
  return 0;
}

/* --- What this layer has made ------------------------------------------------------------------ */

static uint64_t hash_of(const char *text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
  return hash | 1; /* 0 is a free place */
}

static struct made *place_of(struct made *places, size_t size, struct made one) {
  size_t at = (size_t)((one.directory * 0x9e3779b97f4a7c15u) ^ one.name) & (size - 1);
  while (places[at].name != 0 &&
         (places[at].name != one.name || places[at].directory != one.directory)) {
    at = (at + 1) & (size - 1);
  }
  return &places[at];
}

static struct made made_of(int directory, const char *name) {
  struct stat status = {0};
  (void)fstat(directory, &status);
  return (struct made){.directory = status.st_ino, .name = hash_of(name)};
}

static bool is_made(int directory, const char *name) {
  return set_size > 0 && place_of(set, set_size, made_of(directory, name))->name != 0;
}

static bool note_made(int directory, const char *name) {
  if (set_count * 2 >= set_size) {
    const size_t size = set_size == 0 ? 1024 : set_size * 2;
    struct made *larger = calloc(size, sizeof *larger);
    if (larger == NULL) return false;
    for (size_t i = 0; i < set_size; i++) {
      if (set[i].name != 0) *place_of(larger, size, set[i]) = set[i];
    }
    free(set);
    set = larger;
    set_size = size;
  }
  const struct made one = made_of(directory, name);
  struct made *place = place_of(set, set_size, one);
  if (place->name == 0) set_count++;
  *place = one;
  return true;
}

/* --- Finding directories ----------------------------------------------------------------------- */

static int open_inside(const char *inside) {
  const struct open_how how = {
      .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
  };
  for (int tries = 0;; tries++) {
    const long fd = syscall(SYS_openat2, root, *inside == '\0' ? "." : inside, &how, sizeof how);
    /* Something was renamed on the host meanwhile: the kernel could not be sure. */
    if (fd >= 0 || errno != EAGAIN || tries == 100) return (int)fd;
  }
}

/* Too deep for anybody to remove it again by its path. */
static bool is_too_deep(int fd) {
  char link[64], found[HOST_PATH_BYTES_MAX];
  (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, found, sizeof found);
  if (length < 0 || length > HOST_PATH_BYTES_MAX - 300) return true;
  int depth = 0;
  for (ssize_t i = 0; i < length; i++) depth += found[i] == '/';
  return depth > DEPTH_MAX;
}

static void forget_parent(void) {
  if (parent_fd >= 0) (void)close(parent_fd);
  parent_fd = -1;
}

static int make_inside(const char *inside, int links);

/* Makes what is missing at the end of a path, whose parent is there. False with errno. */
static bool make_last(char *inside, int links) {
  char *slash = strrchr(inside, '/');
  const char *name = slash == NULL ? inside : slash + 1;
  if (slash != NULL) *slash = '\0';
  const int above = open_inside(slash == NULL ? "" : inside);
  if (above < 0) return false;
  if (unnamed_count++ == UNNAMED_MAX) return (void)close(above), errno = EDQUOT, false;
  bool made = mkdirat(above, name, 0755) == 0 && note_made(above, name);
  if (!made && errno == EEXIST) {
    /* A link to what is not there yet: that is made, as the link says from the root. */
    char to[HOST_PATH_BYTES_MAX], whole[2 * HOST_PATH_BYTES_MAX];
    const ssize_t length = links == 0 ? -1 : readlinkat(above, name, to, sizeof to - 1);
    if (length > 0) {
      to[length] = '\0';
      const bool is_whole = to[0] == '/' || slash == NULL;
      (void)snprintf(whole, sizeof whole, "%s%s%s", is_whole ? "" : inside, is_whole ? "" : "/", to);
      const int fd = make_inside(whole, links - 1);
      made = fd >= 0;
      if (made) (void)close(fd);
    } else {
      errno = links == 0 ? ELOOP : ENOTDIR;
    }
  }
  const int error = errno;
  (void)close(above);
  errno = error;
  if (slash != NULL) *slash = '/';
  return made;
}

/* Opens a directory, and makes of it what is missing. -1 with errno. */
static int make_inside(const char *inside, int links) {
  char part[HOST_PATH_BYTES_MAX];
  const size_t length = strlen(inside);
  if (length >= sizeof part) return errno = ENAMETOOLONG, -1;
  int fd = open_inside(inside);
  for (size_t at = 1; fd < 0 && errno == ENOENT && at <= length; at++) {
    /* One after the other: those that are there may be links. */
    if (inside[at] != '/' && at != length) continue;
    memcpy(part, inside, at);
    part[at] = '\0';
    fd = open_inside(part);
    if (fd < 0 && errno == ENOENT) {
      if (!make_last(part, links)) return -1;
      fd = open_inside(part);
    }
    if (fd < 0) return -1;
    if (at == length) break;
    (void)close(fd);
    fd = -1;
    errno = ENOENT;
  }
  return fd;
}

/*
 * The directory of a path, and the name in it; -1 with errno. It stays this function's to close.
 * `make` is whether what is missing of the directory is made.
 */
static int open_parent(const char *of, const char **name, bool make) {
  const char *slash = strrchr(of, '/');
  const size_t length = slash == NULL ? 0 : (size_t)(slash - of);
  *name = slash == NULL ? of : slash + 1;
  if (parent_fd >= 0 && strlen(parent_path) == length && memcmp(parent_path, of, length) == 0) {
    return parent_fd;
  }
  forget_parent();
  memcpy(parent_path, of, length);
  parent_path[length] = '\0';
  const int fd = make ? make_inside(parent_path, LINKS_MAX) : open_inside(parent_path);
  if (fd < 0) return -1;
  if (is_too_deep(fd)) {
    (void)close(fd);
    errno = ENAMETOOLONG;
    return -1;
  }
  parent_fd = fd;
  return fd;
}

/* --- Removing ---------------------------------------------------------------------------------- */

static int remove_name(int directory, const char *name, bool is_kept_if_made, int depth);

/* Takes a descriptor over. -1 with errno. */
static int clear_directory(int fd, bool is_kept_if_made, int depth) {
  DIR *entries = depth > 2 * DEPTH_MAX ? NULL : fdopendir(fd);
  if (entries == NULL) {
    if (depth > 2 * DEPTH_MAX) errno = ENAMETOOLONG;
    const int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
  }
  int result = 0;
  for (const struct dirent *entry; result == 0 && (entry = readdir(entries)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    result = remove_name(dirfd(entries), entry->d_name, is_kept_if_made, depth);
  }
  const int error = errno;
  (void)closedir(entries);
  errno = error;
  return result;
}

/*
 * Removes what has a name, with all below it; where asked for but for what this layer has made, and
 * directories of that. Nothing there is nothing to do. -1 with errno.
 */
static int remove_name(int directory, const char *name, bool is_kept_if_made, int depth) {
  struct stat status;
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : -1;
  const bool is_kept = is_kept_if_made && is_made(directory, name);
  if (S_ISDIR(status.st_mode)) {
    const int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || clear_directory(fd, is_kept_if_made, depth + 1) != 0) return -1;
    if (is_kept || unlinkat(directory, name, AT_REMOVEDIR) == 0) return 0;
    return is_kept_if_made && errno == ENOTEMPTY ? 0 : -1;
  }
  return is_kept ? 0 : unlinkat(directory, name, 0);
}

/* Whether a directory could not be opened because it is not there: then nothing is left to remove. */
static bool is_missing(int error) {
  return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* Removes for a whiteout what lower layers have made. 0, or an exit status. */
static int white_out(uint32_t kind) {
  int result = 0;
  if (kind == 'O') {
    const int above = open_inside(path);
    const int fd = above < 0 ? -1 : openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = errno;
    if (above >= 0) (void)close(above);
    errno = error;
    if (fd >= 0) result = clear_directory(fd, true, 0);
    else if (!is_missing(errno)) result = -1;
  } else if (*path != '\0') {
    const char *name = "";
    const int parent = open_parent(path, &name, false);
    if (parent >= 0) result = remove_name(parent, name, true, 0);
    else if (!is_missing(errno)) result = -1;
  }
  const int status = result == 0 ? 0 : host_fail_errno("cannot remove \"%.500s\"", path);
  forget_parent();
  return status;
}

/* --- Making ------------------------------------------------------------------------------------ */

/* Whether an attribute may come from an image: not those that steer an overlay on top of it. */
static bool may_have(const char *name) {
  if (strncmp(name, "user.overlay.", 13) == 0) return false;
  return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

/* 0, or -1 with errno. What the file system does not have is left out. */
static int set_xattrs(const char *at, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes;) {
    uint32_t lengths[2];
    if (bytes - i < sizeof lengths) return errno = EINVAL, -1;
    memcpy(lengths, xattrs + i, sizeof lengths);
    i += (uint32_t)sizeof lengths;
    char name[256];
    if (lengths[0] >= sizeof name || lengths[0] > bytes - i || lengths[1] > bytes - i - lengths[0]) {
      return errno = EINVAL, -1;
    }
    memcpy(name, xattrs + i, lengths[0]);
    name[lengths[0]] = '\0';
    i += lengths[0];
    if (may_have(name) && lsetxattr(at, name, xattrs + i, lengths[1], 0) != 0 &&
        errno != EOPNOTSUPP && (is_root_user || errno != EPERM)) {
      return -1;
    }
    i += lengths[1];
  }
  return 0;
}

/* Owner, mode, attributes and time of what was made. 0, or -1 with errno. */
static int dress(const struct record *record, int directory, const char *name) {
  const bool is_link = record->kind == 'l';
  if (is_root_user &&
      fchownat(directory, name, record->uid, record->gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return -1;
  }
  /* After the owner: a change of that takes set-user-id bits away. Nobody else is here meanwhile. */
  if (!is_link && fchmodat(directory, name, record->mode & MODE_MASK, 0) != 0) return -1;
  char at[64 + 256];
  (void)snprintf(at, sizeof at, "/proc/self/fd/%d/%.255s", directory, name);
  if (record->xattr_bytes > 0 && !is_link && set_xattrs(at, record->xattr_bytes) != 0) return -1;
  const struct timespec time = {.tv_sec = record->mtime_s, .tv_nsec = record->mtime_ns};
  const struct timespec both[2] = {time, time};
  return utimensat(directory, name, both, AT_SYMLINK_NOFOLLOW);
}

/* Copies the content of a file from the input. 0, or -1 with errno; ENODATA where it ends. */
static int copy_content(int fd, uint64_t size) {
  while (size > 0) {
    if (input_at == input_end && !fill()) return errno = ENODATA, -1;
    const size_t rest = input_end - input_at;
    const size_t part = size < rest ? (size_t)size : rest;
    const ssize_t written = write(fd, input + input_at, part);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -1;
    input_at += (size_t)written;
    size -= (uint64_t)written;
  }
  return 0;
}

static int make_file(const struct record *record, int parent, const char *name) {
  const int fd =
      openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  const int result = copy_content(fd, record->size);
  const int error = errno;
  (void)close(fd);
  errno = error;
  return result == 0 ? dress(record, parent, name) : -1;
}

static int make_link(int parent, const char *name) {
  if (*target == '\0' || !is_inner_path(target, strlen(target))) return errno = EINVAL, -1;
  const char *slash = strrchr(target, '/');
  const char *target_name = slash == NULL ? target : slash + 1;
  char above[HOST_PATH_BYTES_MAX];
  (void)snprintf(above, sizeof above, "%.*s", slash == NULL ? 0 : (int)(slash - target), target);
  const int fd = open_inside(above);
  if (fd < 0) return -1;
  /* Links are not followed: the name itself is what gets another one. */
  const int result = linkat(fd, target_name, parent, name, 0);
  const int error = errno;
  (void)close(fd);
  errno = error;
  return result;
}

static int make_device(const struct record *record, int parent, const char *name) {
  const mode_t type = record->kind == 'c' ? S_IFCHR : record->kind == 'b' ? S_IFBLK : S_IFIFO;
  const dev_t device = type == S_IFIFO ? 0 : makedev(record->major, record->minor);
  if (mknodat(parent, name, type | 0600, device) == 0) return dress(record, parent, name);
  /* Whom the host allows no devices does without. */
  return type != S_IFIFO && errno == EPERM ? 0 : -1;
}

static bool note_time(const struct record *record) {
  /* Beyond that, directories keep the time at which they were made. */
  const size_t bytes = sizeof(struct timed) + record->path_bytes + 1;
  if (bytes > TIMES_BYTES_MAX - times_bytes) return true;
  if (times_count == times_size) {
    const size_t size = times_size == 0 ? 256 : times_size * 2;
    struct timed *larger = realloc(times, size * sizeof *larger);
    if (larger == NULL) return false;
    times = larger;
    times_size = size;
  }
  char *copy = strdup(path);
  if (copy == NULL) return false;
  times_bytes += bytes;
  times[times_count++] = (struct timed){
      .path = copy, .mtime = {.tv_sec = record->mtime_s, .tv_nsec = record->mtime_ns}};
  return true;
}

static int make_directory(const struct record *record, int parent, const char *name) {
  if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST) return -1;
  if (!note_time(record)) return -1;
  return dress(record, parent, name);
}

/* Takes away what is in the way; a directory stays for a directory. -1 with errno. */
static int make_way(const struct record *record, int parent, const char *name) {
  struct stat status;
  if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : -1;
  if (record->kind == 'd' && S_ISDIR(status.st_mode)) return 0;
  return remove_name(parent, name, false, 0);
}

/* 0, or an exit status. */
static int make(const struct record *record) {
  if (*path == '\0') {
    if (record->kind != 'd') return host_fail(CODE_INVALID_ARGUMENT, "a layer's root is no directory");
    if (note_time(record) && dress(record, root, ".") == 0) return 0;
    return host_fail_errno("cannot set the mode of the root directory");
  }
  const char *name = "";
  const int parent = open_parent(path, &name, true);
  if (parent < 0) return host_fail_errno("cannot make \"%.500s\"", path);
  int result = make_way(record, parent, name);
  if (result == 0) {
    switch (record->kind) {
      case 'f': result = make_file(record, parent, name); break;
      case 'd': result = make_directory(record, parent, name); break;
      case 'h': result = make_link(parent, name); break;
      case 'c': case 'b': case 'p': result = make_device(record, parent, name); break;
      default:
        result = symlinkat(target, parent, name) == 0 ? dress(record, parent, name) : -1;
    }
  }
  if (result == 0 && !note_made(parent, name)) result = -1;
  if (result != 0) return host_fail_errno("cannot make \"%.500s\"", path);
  /* Anything but a plain file may have changed where paths lead. */
  if (record->kind != 'f') forget_parent();
  return 0;
}

/* What can be said of a layer only when it is done. The last of a directory's times counts. */
static void end_layer(void) {
  for (size_t i = 0; i < times_count; i++) {
    const int fd = open_inside(times[i].path);
    const struct timespec both[2] = {times[i].mtime, times[i].mtime};
    if (fd >= 0) {
      (void)utimensat(fd, ".", both, AT_SYMLINK_NOFOLLOW);
      (void)close(fd);
    }
    free(times[i].path);
  }
  times_count = times_bytes = 0;
  free(set);
  set = NULL;
  set_size = set_count = 0;
  forget_parent();
}

static int finish(void) {
  end_layer();
  return puts("ok") >= 0 && fflush(stdout) == 0 ? 0 : host_fail_errno("cannot write the answer");
}

int host_unpack(int argc, char **argv) {
  if (argc != 2 || !host_is_plain_path(argv[1])) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a directory");
  }
  root = open(argv[1], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (root < 0) return host_fail_errno("cannot open \"%.500s\"", argv[1]);
  is_root_user = geteuid() == 0;
  (void)umask(0);
  path = malloc(HOST_PATH_BYTES_MAX);
  target = malloc(HOST_PATH_BYTES_MAX);
  xattrs = malloc(XATTR_BYTES_MAX);
  if (path == NULL || target == NULL || xattrs == NULL) return host_fail_errno("no memory");
  struct record record;
  while (take(&record, sizeof record)) {
    int status = read_strings(&record);
    if (status != 0) return status;
    switch (record.kind) {
      case 'E': return finish();
      case 'L': end_layer(); break;
      case 'W': case 'O': status = white_out(record.kind); break;
      case 'f': case 'd': case 'l': case 'h': case 'c': case 'b': case 'p':
        status = make(&record);
        break;
      default: return host_fail(CODE_INVALID_ARGUMENT, "record of unknown kind");
    }
    if (status != 0) return status;
  }
  return host_fail(CODE_INVALID_ARGUMENT, "the input ended before the files were complete");
}

/* Says whether an overlay that is mounted here has a directory below it. */
int host_overlay_uses(int argc, char **argv) {
  if (argc != 2 || !host_is_plain_path(argv[1])) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a directory");
  }
  FILE *mounts = fopen("/proc/self/mountinfo", "re");
  if (mounts == NULL) return host_fail_errno("cannot read the mounts");
  char *line = NULL;
  size_t size = 0;
  bool is_used = false;
  const size_t length = strlen(argv[1]);
  while (!is_used && (errno = 0, getline(&line, &size, mounts)) > 0) {
    if (strstr(line, " - overlay ") == NULL) continue;
    for (const char *at = line; !is_used && (at = strstr(at, argv[1])) != NULL; at += length) {
      const char after = at[length];
      is_used = after == ',' || after == ':' || after == ' ' || after == '\n' || after == '/';
    }
  }
  const bool is_whole = is_used || feof(mounts) != 0;
  free(line);
  (void)fclose(mounts);
  if (!is_whole) return host_fail_errno("cannot read the mounts");
  (void)printf("%s\n", is_used ? "yes" : "no");
  return fflush(stdout) == 0 ? 0 : host_fail_errno("cannot write the answer");
}
