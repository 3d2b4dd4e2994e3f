/*
 * A guest for tests of the VMM alone: the only program of its machine. It loads the modules in
 * /modules, then answers lines on the first virtio-serial port, one line each:
 *
 *   ping                 pong and how often it was asked, which lives in the guest's memory
 *   disks                name:serial:sectors:readonly of each disk
 *   read DISK OFFSET     the text at an offset of a disk, read past all caches
 *   write DISK OFFSET T  writes a text there
 *   cat FILE             a file on one line
 *   set FILE TEXT        writes a text to a file
 *   touch MIB            uses that much memory and gives it back
 *   mount TYPE SOURCE    mounts a file system at /mnt
 *   panic, poweroff      ends; no answer
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK 4096

static char answer[16384];
static unsigned long pings;

static void fail(const char *what) {
  (void)snprintf(answer, sizeof answer, "error %s: %s", what, strerror(errno));
}

static void mount_at(const char *type, const char *where) {
  (void)mkdir(where, 0755);
  (void)mount(type, where, type, 0, NULL);
}

static void load_modules(void) {
  struct dirent **names = NULL;
  const int count = scandir("/modules", &names, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    char path[300];
    (void)snprintf(path, sizeof path, "/modules/%s", names[i]->d_name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    /* What does not load is missed by the test that needs it. */
    if (fd >= 0) (void)syscall(SYS_finit_module, fd, "", 0);
    if (fd >= 0) (void)close(fd);
    free(names[i]);
  }
  free(names);
}

/* The first port to come up: there is one only. */
static int open_port(void) {
  for (;;) {
    DIR *devices = opendir("/dev");
    struct dirent *entry = NULL;
    while (devices != NULL && (entry = readdir(devices)) != NULL) {
      if (strncmp(entry->d_name, "vport", 5) != 0) continue;
      char path[300];
      (void)snprintf(path, sizeof path, "/dev/%s", entry->d_name);
      const int port = open(path, O_RDWR | O_CLOEXEC);
      if (port >= 0) {
        (void)closedir(devices);
        return port;
      }
    }
    if (devices != NULL) (void)closedir(devices);
    (void)usleep(2000);
  }
}

static void read_text(const char *path, char *text, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
  text[length > 0 ? length : 0] = '\0';
  for (char *at = text; *at != '\0'; at++) {
    if (*at == '\n') *at = at[1] == '\0' ? '\0' : '|';
  }
  if (fd >= 0) (void)close(fd);
}

static void list_disks(void) {
  DIR *disks = opendir("/sys/block");
  struct dirent *entry = NULL;
  size_t used = 0;
  answer[0] = '\0';
  while (disks != NULL && (entry = readdir(disks)) != NULL && used < sizeof answer - 400) {
    if (entry->d_name[0] == '.') continue;
    char path[400], serial[64], sectors[64], readonly[8];
    (void)snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
    read_text(path, serial, sizeof serial);
    (void)snprintf(path, sizeof path, "/sys/block/%s/size", entry->d_name);
    read_text(path, sectors, sizeof sectors);
    (void)snprintf(path, sizeof path, "/sys/block/%s/ro", entry->d_name);
    read_text(path, readonly, sizeof readonly);
    used += (size_t)snprintf(answer + used, sizeof answer - used, "%s:%s:%s:%s ", entry->d_name,
                             serial, sectors, readonly);
  }
  if (disks != NULL) (void)closedir(disks);
}

static void use_disk(bool writes, const char *disk, const char *offset, const char *text) {
  static char block[BLOCK] __attribute__((aligned(BLOCK)));
  char path[300];
  (void)snprintf(path, sizeof path, "/dev/%s", disk);
  const int fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
  if (fd < 0) return fail("open");
  memset(block, 0, sizeof block);
  if (writes) (void)snprintf(block, sizeof block, "%s", text);
  const ssize_t done =
      writes ? pwrite(fd, block, BLOCK, atoll(offset)) : pread(fd, block, BLOCK, atoll(offset));
  if (done != BLOCK || (writes && fsync(fd) != 0)) fail(writes ? "write" : "read");
  else (void)snprintf(answer, sizeof answer, "%.200s", writes ? "ok" : block);
  (void)close(fd);
}

static void set_file(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fail("open");
  if (write(fd, text, strlen(text)) < 0) fail("write");
  else (void)snprintf(answer, sizeof answer, "ok");
  (void)close(fd);
}

static void touch(size_t mebibytes) {
  volatile char *memory = malloc(mebibytes << 20);
  if (memory == NULL) return fail("malloc");
  for (size_t at = 0; at < mebibytes << 20; at += BLOCK) memory[at] = 1;
  free((void *)memory);
  (void)snprintf(answer, sizeof answer, "ok");
}

static void mount_tree(const char *type, const char *source) {
  (void)mkdir("/mnt", 0755);
  if (mount(source, "/mnt", type, 0, NULL) != 0) fail("mount");
  else (void)snprintf(answer, sizeof answer, "ok");
}

static void run(char *line) {
  const char *words[4] = {"", "", "", ""};
  char *rest = line;
  for (int i = 0; i < 4 && rest != NULL; i++) words[i] = i < 3 ? strsep(&rest, " ") : rest;
  const char *command = words[0];
  answer[0] = '\0';
  if (strcmp(command, "ping") == 0) {
    (void)snprintf(answer, sizeof answer, "pong %lu", ++pings);
  } else if (strcmp(command, "disks") == 0) {
    list_disks();
  } else if (strcmp(command, "read") == 0) {
    use_disk(false, words[1], words[2], "");
  } else if (strcmp(command, "write") == 0) {
    use_disk(true, words[1], words[2], words[3]);
  } else if (strcmp(command, "cat") == 0) {
    read_text(words[1], answer, sizeof answer);
  } else if (strcmp(command, "set") == 0) {
    set_file(words[1], words[2]);
  } else if (strcmp(command, "touch") == 0) {
    touch((size_t)atol(words[1]));
  } else if (strcmp(command, "mount") == 0) {
    mount_tree(words[1], words[2]);
  } else if (strcmp(command, "panic") == 0) {
    set_file("/proc/sysrq-trigger", "c");
  } else if (strcmp(command, "poweroff") == 0) {
    (void)reboot(RB_POWER_OFF);
  } else {
    (void)snprintf(answer, sizeof answer, "error: unknown command \"%.100s\"", command);
  }
}

static void say(int port, const char *text) {
  for (size_t length = strlen(text); length > 0;) {
    const ssize_t done = write(port, text, length);
    if (done > 0) {
      text += done;
      length -= (size_t)done;
    } else if (errno != EINTR && errno != EAGAIN) {
      return;
    }
  }
}

int main(void) {
  mount_at("proc", "/proc");
  mount_at("sysfs", "/sys");
  mount_at("devtmpfs", "/dev");
  load_modules();
  const int port = open_port();
  say(port, "ready\n");
  static char line[1024];
  size_t used = 0;
  for (;;) {
    char byte = 0;
    if (read(port, &byte, 1) != 1) {
      /* Nobody is connected. */
      (void)usleep(2000);
    } else if (byte != '\n') {
      if (used < sizeof line - 1) line[used++] = byte;
    } else {
      line[used] = '\0';
      used = 0;
      run(line);
      say(port, answer);
      say(port, "\n");
    }
  }
}
