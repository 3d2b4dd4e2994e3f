/*
 * Calls every function of WASI preview 1 and says of each, one a line, whether it works: does what
 * the specification says, with an effect that can be seen; or the error that it answers, or how it
 * differs. It wants a file /data with "0123456789", a readable stdin, and an environment variable.
 *
 * With the argument "open N" it opens N descriptors of /data instead and says how many it got.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

int32_t proc_raise(int32_t number)
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_raise")));

/* The root directory. */
#define ROOT 3

/* All but those of sockets, which files and directories do not have. */
static const __wasi_rights_t ALL = (1ull << 28) - 1;
static const __wasi_rights_t DIRECTORY = __WASI_RIGHTS_FD_READDIR | __WASI_RIGHTS_PATH_OPEN;

/* Says what came of a function: an error, or whether its effect was right. */
static void tell(const char *name, __wasi_errno_t error, int right) {
  if (error != 0) {
    printf("%s error %d\n", name, error);
  } else {
    printf("%s %s\n", name, right ? "works" : "differs");
  }
  fflush(stdout);
}

static __wasi_fd_t open_data(__wasi_rights_t rights) {
  __wasi_fd_t fd = 0;
  if (__wasi_path_open(ROOT, 0, "data", 0, rights, ALL, 0, &fd) != 0) {
    printf("cannot open /data\n");
    exit(1);
  }
  return fd;
}

static __wasi_filestat_t stat_of(const char *path) {
  __wasi_filestat_t stat;
  memset(&stat, 0, sizeof stat);
  (void)__wasi_path_filestat_get(ROOT, 0, path, &stat);
  return stat;
}

static int exists(const char *path) {
  __wasi_filestat_t stat;
  return __wasi_path_filestat_get(ROOT, 0, path, &stat) == 0;
}

static void make_file(const char *path) {
  __wasi_fd_t fd;
  if (__wasi_path_open(ROOT, 0, path, __WASI_OFLAGS_CREAT, ALL, ALL, 0, &fd) == 0)
    (void)__wasi_fd_close(fd);
}

static void arguments(void) {
  __wasi_size_t count = 0, size = 0;
  char *pointers[16], buffer[1024];
  tell("args_sizes_get", __wasi_args_sizes_get(&count, &size), count == 1 && size == 5);
  tell("args_get", __wasi_args_get((uint8_t **)pointers, (uint8_t *)buffer),
       strcmp(pointers[0], "wasi") == 0);
  __wasi_errno_t error = __wasi_environ_sizes_get(&count, &size);
  tell("environ_sizes_get", error, count >= 1 && size >= 4);
  error = __wasi_environ_get((uint8_t **)pointers, (uint8_t *)buffer);
  int found = 0;
  for (__wasi_size_t i = 0; i < count; i++) found |= strcmp(pointers[i], "A=b") == 0;
  tell("environ_get", error, found);
}

static void clocks(void) {
  __wasi_timestamp_t first = 0, second = 0;
  __wasi_errno_t error = 0;
  int right = 1;
  for (uint32_t clock = 0; clock < 4; clock++) {
    error |= __wasi_clock_res_get(clock, &first);
    right &= first > 0 && first <= 1000000000;
  }
  tell("clock_res_get", error, right);
  error = 0;
  right = 1;
  for (uint32_t clock = 0; clock < 4; clock++) {
    error |= __wasi_clock_time_get(clock, 1, &first);
    error |= __wasi_clock_time_get(clock, 1, &second);
    right &= first > 0 && second >= first;
  }
  tell("clock_time_get", error, right);
}

static void random_and_turn(void) {
  uint8_t bytes[32] = {0}, zero[32] = {0};
  __wasi_errno_t error = __wasi_random_get(bytes, sizeof bytes);
  tell("random_get", error, memcmp(bytes, zero, sizeof bytes) != 0);
  tell("sched_yield", __wasi_sched_yield(), 1);
}

static void reading_and_writing(void) {
  __wasi_fd_t fd = open_data(ALL);
  uint8_t first[4] = {0}, second[4] = {0};
  __wasi_iovec_t in[2] = {{first, 2}, {second, 3}};
  __wasi_size_t count = 0;
  __wasi_errno_t error = __wasi_fd_read(fd, in, 2, &count);
  tell("fd_read", error, count == 5 && memcmp(first, "01", 2) == 0 && memcmp(second, "234", 3) == 0);
  __wasi_filesize_t offset = 0;
  tell("fd_tell", __wasi_fd_tell(fd, &offset), offset == 5);
  tell("fd_seek", __wasi_fd_seek(fd, -2, __WASI_WHENCE_END, &offset), offset == 8);
  in[0].buf_len = 3;
  error = __wasi_fd_pread(fd, in, 1, 7, &count);
  (void)__wasi_fd_tell(fd, &offset);
  tell("fd_pread", error, count == 3 && memcmp(first, "789", 3) == 0 && offset == 8);
  __wasi_ciovec_t out[2] = {{(const uint8_t *)"ab", 2}, {(const uint8_t *)"cd", 2}};
  error = __wasi_fd_pwrite(fd, out, 2, 0, &count);
  __wasi_size_t got = 0;
  (void)__wasi_fd_pread(fd, in, 1, 1, &got);
  tell("fd_pwrite", error, count == 4 && got == 3 && memcmp(first, "bcd", 3) == 0);
  (void)__wasi_fd_seek(fd, 0, __WASI_WHENCE_END, &offset);
  error = __wasi_fd_write(fd, out, 2, &count);
  tell("fd_write", error, count == 4 && stat_of("data").size == 14);
  tell("fd_sync", __wasi_fd_sync(fd), 1);
  tell("fd_datasync", __wasi_fd_datasync(fd), 1);
  tell("fd_advise", __wasi_fd_advise(fd, 0, 10, __WASI_ADVICE_SEQUENTIAL), 1);
  tell("fd_allocate", __wasi_fd_allocate(fd, 0, 100), stat_of("data").size == 100);
  tell("fd_filestat_set_size", __wasi_fd_filestat_set_size(fd, 10), stat_of("data").size == 10);
  error = __wasi_fd_filestat_set_times(fd, 1000000000, 2000000000,
                                       __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM);
  tell("fd_filestat_set_times", error, stat_of("data").mtim == 2000000000);
  __wasi_filestat_t stat;
  error = __wasi_fd_filestat_get(fd, &stat);
  tell("fd_filestat_get", error, stat.size == 10 && stat.filetype == __WASI_FILETYPE_REGULAR_FILE);
  (void)__wasi_fd_close(fd);
}

static void descriptors(void) {
  __wasi_fd_t fd = open_data(ALL), other = open_data(ALL);
  __wasi_fdstat_t stat;
  __wasi_errno_t error = __wasi_fd_fdstat_get(fd, &stat);
  tell("fd_fdstat_get", error,
       stat.fs_filetype == __WASI_FILETYPE_REGULAR_FILE &&
           (stat.fs_rights_base & __WASI_RIGHTS_FD_READ) != 0 && stat.fs_flags == 0);
  error = __wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND);
  (void)__wasi_fd_fdstat_get(fd, &stat);
  tell("fd_fdstat_set_flags", error, stat.fs_flags == __WASI_FDFLAGS_APPEND);
  error = __wasi_fd_fdstat_set_rights(fd, __WASI_RIGHTS_FD_READ, 0);
  __wasi_ciovec_t out = {(const uint8_t *)"x", 1};
  __wasi_size_t count = 0;
  tell("fd_fdstat_set_rights", error, __wasi_fd_write(fd, &out, 1, &count) != 0);
  uint8_t byte = 0;
  __wasi_iovec_t in = {&byte, 1};
  (void)__wasi_fd_seek(other, 3, __WASI_WHENCE_SET, &(__wasi_filesize_t){0});
  error = __wasi_fd_renumber(other, fd);
  (void)__wasi_fd_read(fd, &in, 1, &count);
  tell("fd_renumber", error, byte == 'd' && __wasi_fd_fdstat_get(other, &stat) != 0);
  tell("fd_close", __wasi_fd_close(fd), __wasi_fd_fdstat_get(fd, &stat) != 0);
}

static void directories(void) {
  __wasi_prestat_t prestat;
  __wasi_errno_t error = __wasi_fd_prestat_get(ROOT, &prestat);
  tell("fd_prestat_get", error, prestat.tag == 0 && prestat.u.dir.pr_name_len == 1);
  uint8_t name[1] = {0};
  tell("fd_prestat_dir_name", __wasi_fd_prestat_dir_name(ROOT, name, 1), name[0] == '/');
  __wasi_fd_t fd = ROOT;
  error = __wasi_path_open(ROOT, 0, ".", __WASI_OFLAGS_DIRECTORY, DIRECTORY, ALL, 0, &fd);
  if (error != 0) printf("cannot open the root directory: error %d\n", error);
  uint8_t entries[4096];
  __wasi_size_t used = 0;
  error = __wasi_fd_readdir(fd, entries, sizeof entries, 0, &used);
  int found = 0;
  for (__wasi_size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
    __wasi_dirent_t entry;
    memcpy(&entry, entries + at, sizeof entry);
    found |= entry.d_namlen == 4 && memcmp(entries + at + sizeof entry, "data", 4) == 0 &&
             entry.d_type == __WASI_FILETYPE_REGULAR_FILE;
    at += sizeof entry + entry.d_namlen;
  }
  tell("fd_readdir", error, found);
  if (fd != ROOT) (void)__wasi_fd_close(fd);
}

static void paths(void) {
  __wasi_fd_t fd = 0;
  __wasi_errno_t error =
      __wasi_path_open(ROOT, 0, "made", __WASI_OFLAGS_CREAT | __WASI_OFLAGS_EXCL, ALL, ALL, 0, &fd);
  tell("path_open", error, exists("made"));
  if (error == 0) (void)__wasi_fd_close(fd);
  error = __wasi_path_create_directory(ROOT, "dir");
  tell("path_create_directory", error, stat_of("dir").filetype == __WASI_FILETYPE_DIRECTORY);
  __wasi_filestat_t stat;
  error = __wasi_path_filestat_get(ROOT, 0, "data", &stat);
  tell("path_filestat_get", error, stat.size == 10 && stat.nlink == 1);
  error = __wasi_path_filestat_set_times(ROOT, 0, "data", 0, 3000000000, __WASI_FSTFLAGS_MTIM);
  tell("path_filestat_set_times", error, stat_of("data").mtim == 3000000000);
  error = __wasi_path_link(ROOT, 0, "data", ROOT, "dir/linked");
  tell("path_link", error, stat_of("dir/linked").nlink == 2);
  error = __wasi_path_symlink("data", ROOT, "symbolic");
  tell("path_symlink", error, stat_of("symbolic").filetype == __WASI_FILETYPE_SYMBOLIC_LINK);
  uint8_t target[16] = {0};
  __wasi_size_t length = 0;
  error = __wasi_path_readlink(ROOT, "symbolic", target, sizeof target, &length);
  tell("path_readlink", error, length == 4 && memcmp(target, "data", 4) == 0);
  make_file("old");
  error = __wasi_path_rename(ROOT, "old", ROOT, "dir/new");
  tell("path_rename", error, exists("dir/new") && !exists("old"));
  error = __wasi_path_unlink_file(ROOT, "dir/new");
  tell("path_unlink_file", error, !exists("dir/new"));
  (void)__wasi_path_unlink_file(ROOT, "dir/linked");
  error = __wasi_path_remove_directory(ROOT, "dir");
  tell("path_remove_directory", error, !exists("dir"));
}

static void waiting(void) {
  __wasi_subscription_t wanted[2];
  memset(wanted, 0, sizeof wanted);
  wanted[0].userdata = 7;
  wanted[0].u.tag = __WASI_EVENTTYPE_CLOCK;
  wanted[0].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
  wanted[0].u.u.clock.timeout = 20000000;
  __wasi_event_t events[2];
  __wasi_size_t count = 0;
  __wasi_timestamp_t before = 0, after = 0;
  (void)__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &before);
  __wasi_errno_t error = __wasi_poll_oneoff(wanted, events, 1, &count);
  (void)__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &after);
  int slept = count == 1 && events[0].userdata == 7 && after - before >= 20000000;
  wanted[0].u.u.clock.timeout = 60000000000;
  wanted[1].userdata = 8;
  wanted[1].u.tag = __WASI_EVENTTYPE_FD_READ;
  wanted[1].u.u.fd_read.file_descriptor = 0;
  error |= __wasi_poll_oneoff(wanted, events, 2, &count);
  tell("poll_oneoff", error, slept && count == 1 && events[0].userdata == 8 && events[0].error == 0);
}

/* On what is no socket: a guest gets none but those that it opens itself. */
static void sockets(void) {
  __wasi_fd_t fd = open_data(ALL), made = 0;
  uint8_t byte = 0;
  __wasi_iovec_t in = {&byte, 1};
  __wasi_ciovec_t out = {&byte, 1};
  __wasi_size_t count = 0;
  __wasi_roflags_t flags = 0;
  tell("sock_accept", __wasi_sock_accept(fd, 0, &made), 0);
  tell("sock_recv", __wasi_sock_recv(fd, &in, 1, 0, &count, &flags), 0);
  tell("sock_send", __wasi_sock_send(fd, &out, 1, 0, &count), 0);
  tell("sock_shutdown", __wasi_sock_shutdown(fd, __WASI_SDFLAGS_RD), 0);
  (void)__wasi_fd_close(fd);
}

static int open_many(int wanted) {
  int got = 0;
  __wasi_fd_t fd = 0;
  __wasi_errno_t error = 0;
  while (got < wanted &&
         (error = __wasi_path_open(ROOT, 0, "data", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd)) == 0)
    got++;
  printf("opened %d, error %d\n", got, error);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "open") == 0) return open_many(atoi(argv[2]));
  arguments();
  clocks();
  random_and_turn();
  reading_and_writing();
  descriptors();
  directories();
  paths();
  waiting();
  sockets();
  tell("proc_raise", (__wasi_errno_t)proc_raise(9), 1);
  fflush(stdout);
  __wasi_proc_exit(42);
}
