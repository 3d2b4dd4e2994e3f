/* Verbs that look at the host: what it can do, and how large a directory tree is. */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TEXT_BYTES_MAX 65536
#define DEPTH_MAX 128
/* The only version of the interface that there has been since 2007. */
#define KVM_VERSION 12

static const char *yes_or_no(bool yes) { return yes ? "yes" : "no"; }

/* Whether KVM is there and answers as it should. */
static bool has_kvm(void) {
  const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool answers = ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_VERSION;
  (void)close(fd);
  return answers;
}

static bool can_open(const char *path) {
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  (void)close(fd);
  return true;
}

/* A number of /proc/meminfo; 0 where it is not there. */
static unsigned long long memory_number(const char *text, const char *name) {
  const char *line = strstr(text, name);
  return line == NULL ? 0 : strtoull(line + strlen(name), NULL, 10);
}

int host_facts(int argc, char **argv) {
  (void)argv;
  if (argc != 1) return host_fail(CODE_INVALID_ARGUMENT, "expected no arguments");
  char text[TEXT_BYTES_MAX];
  if (host_read_file("/proc/sys/kernel/random/boot_id", text, sizeof text) < 0) {
    return host_fail_errno("cannot read the boot id");
  }
  text[strcspn(text, "\n")] = '\0';
  (void)printf("boot_id %s\n", text);
  (void)printf("kvm %s\n", yes_or_no(has_kvm()));
  (void)printf("kvm_pvm %s\n", yes_or_no(access("/sys/module/kvm_pvm", F_OK) == 0));
  (void)printf("vhost_vsock %s\n", yes_or_no(can_open("/dev/vhost-vsock")));
  struct utsname names;
  if (uname(&names) == 0) (void)printf("kernel %s\n", names.release);
  (void)printf("page_bytes %ld\n", sysconf(_SC_PAGESIZE));
  if (host_read_file("/proc/meminfo", text, sizeof text) < 0) text[0] = '\0';
  (void)printf("free_huge_pages %llu\n", memory_number(text, "\nHugePages_Free:"));
  (void)printf("huge_page_bytes %llu\n", memory_number(text, "\nHugepagesize:") * 1024);
  return fflush(stdout) == 0 ? 0 : host_fail_errno("cannot write the answer");
}

struct tree {
  uint64_t bytes;
  uint64_t entries;
  uint64_t bytes_max;
  uint64_t entries_max;
  dev_t device;
  bool is_partial;
};

static void count(struct tree *tree, const struct stat *status) {
  tree->entries++;
  if (S_ISREG(status->st_mode)) tree->bytes += (uint64_t)status->st_size;
  if (tree->bytes > tree->bytes_max || tree->entries > tree->entries_max) tree->is_partial = true;
}

/* Takes the descriptor over. What goes away while it is counted was not there. */
static void walk(struct tree *tree, int fd, int depth) {
  DIR *directory = depth > DEPTH_MAX ? NULL : fdopendir(fd);
  if (directory == NULL) {
    (void)close(fd);
    tree->is_partial = true;
    return;
  }
  for (const struct dirent *entry; !tree->is_partial && (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    count(tree, &status);
    if (!S_ISDIR(status.st_mode) || status.st_dev != tree->device) continue;
    const int child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child >= 0) walk(tree, child, depth + 1);
    else tree->is_partial = true;
  }
  (void)closedir(directory);
}

int host_tree_size(int argc, char **argv) {
  struct tree tree = {0};
  if (argc != 4 || !host_parse_number(argv[2], INT64_MAX, &tree.bytes_max) ||
      !host_parse_number(argv[3], INT64_MAX, &tree.entries_max)) {
    return host_fail(CODE_INVALID_ARGUMENT, "expected a path, most bytes and most entries");
  }
  struct stat status;
  if (stat(argv[1], &status) != 0) return host_fail_errno("cannot measure \"%.500s\"", argv[1]);
  tree.device = status.st_dev;
  count(&tree, &status);
  if (S_ISDIR(status.st_mode)) {
    const int fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return host_fail_errno("cannot measure \"%.500s\"", argv[1]);
    walk(&tree, fd, 0);
  }
  (void)printf("bytes %llu\nentries %llu\npartial %d\n", (unsigned long long)tree.bytes,
               (unsigned long long)tree.entries, tree.is_partial);
  return fflush(stdout) == 0 ? 0 : host_fail_errno("cannot write the answer");
}
