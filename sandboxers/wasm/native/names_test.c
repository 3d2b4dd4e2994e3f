/* Tests that looking up names in a guest's root loads nothing from there: see guest_test.c. */
#define _GNU_SOURCE
#include "guest_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "name.test"
#define ADDRESS "10.9.8.7"

static char root[PATH_MAX / 2];

static void write_file(const char *name, const char *text) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", root, name);
  const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  CHECK(fd >= 0);
  CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

static void make_directory(const char *name) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", root, name);
  CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
}

static bool has_mark(void) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/mark", root);
  return unlink(path) == 0;
}

/* A root beside this program, with the module that was built there. */
static void make_root(void) {
  const ssize_t length = readlink("/proc/self/exe", root, sizeof root - 8);
  CHECK(length > 0);
  root[length] = '\0';
  *strrchr(root, '/') = '\0';
  char module[PATH_MAX], here[PATH_MAX];
  snprintf(module, sizeof module, "%s/guest_test_nss.so", root);
  strcat(root, "/root");
  make_directory("");
  make_directory("etc");
  make_directory("lib");
  write_file("etc/nsswitch.conf", "hosts: evil files\n");
  write_file("etc/hosts", ADDRESS " " NAME "\n");
  snprintf(here, sizeof here, "%s/lib/libnss_evil.so.2", root);
  CHECK(link(module, here) == 0 || errno == EEXIST);
}

/* 0 when the name was found with its address, else the error. */
static uint64_t look_up(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo *found = NULL;
  const int error = getaddrinfo(NAME, NULL, &hints, &found);
  if (error != 0) return (uint64_t)(int64_t)error;
  const struct sockaddr_in *address = (const void *)found->ai_addr;
  const bool right = address->sin_addr.s_addr == inet_addr(ADDRESS);
  freeaddrinfo(found);
  return right ? 0 : 1000;
}

static void names_are_looked_up_without_the_modules_of_an_image(void) {
  if (geteuid() != 0) return; /* it takes a privilege to change the root */
  make_root();
  const struct quasaur_step steps[] = {
      {.number = SYS_unshare, .args = {CLONE_FS}},
      {.number = SYS_chroot, .args = {0}, .data_args = 1},
      {.number = SYS_chdir, .args = {PATH_MAX}, .data_args = 1},
  };
  static char data[PATH_MAX + 2];
  strcpy(data, root);
  strcpy(data + PATH_MAX, "/");
  struct quasaur_spec spec = spec_of(look_up, 1);
  spec.step_count = 3;
  spec.data_bytes = sizeof data;
  CHECK(finish(start(&spec, steps, data)).value == 0);
  CHECK(!has_mark());
  /* The module works: a program that has not been prepared loads it. */
  const int status = run_again("names of an image");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(has_mark());
}

static void names_of_an_image(void) {
  make_root();
  CHECK(chroot(root) == 0 && chdir("/") == 0);
  (void)look_up(0, 0, 0, 0, 0, 0);
  _exit(0);
}

const struct test fatal_name_tests[] = {{"names of an image", names_of_an_image}, {NULL, NULL}};

const struct test name_tests[] = {
    {"names are looked up without the modules of an image",
     names_are_looked_up_without_the_modules_of_an_image},
    {NULL, NULL},
};
