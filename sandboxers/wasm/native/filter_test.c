/* Tests of filter.c and starters.c: see guest_test.c. */
#define _GNU_SOURCE
#include "guest_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f
#define UNUSED (void)a, (void)b, (void)c, (void)d, (void)e, (void)f

/* What no guest may do, whatever it gives as arguments: the results are all EPERM. */
static const long DENIED[] = {
    SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_pidfd_send_signal, SYS_execve, SYS_execveat, SYS_clone, SYS_clone3, SYS_ptrace,
    SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_open, SYS_pidfd_getfd, SYS_mount,
    SYS_umount2, SYS_pivot_root, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsmount,
    SYS_mount_setattr, SYS_chroot, SYS_chdir, SYS_setns, SYS_unshare, SYS_bpf, SYS_perf_event_open,
    SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_add_key,
    SYS_request_key, SYS_keyctl, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter,
    SYS_io_uring_register, SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
    SYS_setgroups, SYS_setfsuid, SYS_setfsgid, SYS_capset, SYS_personality, SYS_prctl, SYS_seccomp,
    SYS_setpriority, SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_setrlimit, SYS_sethostname,
    SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_acct, SYS_quotactl, SYS_syslog,
    SYS_vhangup, SYS_memfd_create, SYS_memfd_secret, SYS_socketpair, SYS_pipe2, SYS_dup3,
    SYS_eventfd2, SYS_signalfd4, SYS_inotify_init1, SYS_fanotify_init, SYS_openat2, SYS_close_range,
    SYS_shmget, SYS_semget, SYS_msgget, SYS_mq_open, SYS_mknodat, SYS_fchmod, SYS_fchmodat,
    SYS_fchownat, SYS_umask, SYS_setsid, SYS_setpgid, SYS_wait4, SYS_waitid, SYS_timer_create,
    SYS_pkey_mprotect, SYS_remap_file_pages, SYS_mlock, SYS_process_madvise, SYS_move_pages,
    SYS_landlock_create_ruleset, SYS_io_setup, SYS_splice, SYS_tee, SYS_vmsplice,
#if defined(__x86_64__)
    SYS_fork, SYS_vfork, SYS_pipe, SYS_dup2, SYS_creat, SYS_eventfd, SYS_signalfd, SYS_inotify_init,
    SYS_epoll_create, SYS_modify_ldt, SYS_arch_prctl, SYS_iopl, SYS_ioperm, SYS_mknod, SYS_chmod,
    SYS_uselib, SYS_ustat,
#endif
};

/* Returns the number of the first call that is not denied; 0 when all are. */
static uint64_t make_denied_calls(ARGUMENTS) {
  UNUSED;
  for (size_t i = 0; i < sizeof DENIED / sizeof DENIED[0]; i++) {
    if (syscall(DENIED[i], -1, 0, 0, 0, 0, 0) != -1 || errno != EPERM) return (uint64_t)DENIED[i];
  }
  return 0;
}

static void denies_what_no_guest_needs(void) { CHECK(result_of(make_denied_calls) == 0); }

static uint64_t make_denied_forms(ARGUMENTS) {
  UNUSED;
  uint64_t denied = 0;
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  struct rlimit limit;
  denied += mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                MAP_FAILED && errno == EPERM;
  void *map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  denied += map != MAP_FAILED;
  denied += mprotect(map, page, PROT_READ | PROT_EXEC) == -1 && errno == EPERM;
  munmap(map, page);
  denied += fcntl(0, F_DUPFD, 100) == -1 && errno == EPERM;
  denied += fcntl(0, F_DUPFD_CLOEXEC, 100) == -1 && errno == EPERM;
  denied += fcntl(pipe_fds[0], F_GETFD) != -1;
  denied += getrlimit(RLIMIT_NOFILE, &limit) == 0;
  denied += setrlimit(RLIMIT_NOFILE, &limit) == -1 && errno == EPERM;
  denied += syscall(100000, 0) == -1 && errno == ENOSYS;
  return denied;
}

static void denies_forms_of_calls(void) { CHECK(result_of(make_denied_forms) == 9); }

static void *nothing(void *argument) { return argument; }

static uint64_t make_a_thread(ARGUMENTS) {
  UNUSED;
  pthread_t thread;
  return (uint64_t)pthread_create(&thread, NULL, nothing, NULL);
}

static void a_guest_makes_no_threads(void) {
  const uint64_t error = result_of(make_a_thread);
  CHECK(error == EPERM || error == EAGAIN);
}

static uint64_t nothing_at_all(ARGUMENTS) {
  UNUSED;
  return 7;
}

static void settings_may_do_what_guests_may_not(void) {
  const struct quasaur_step steps[] = {
      {.number = SYS_unshare, .args = {CLONE_FS}},
      {.number = SYS_chdir, .args = {0}, .data_args = 1},
      {.number = SYS_prctl, .args = {PR_SET_TIMERSLACK, 1000}},
  };
  struct quasaur_spec spec = spec_of(nothing_at_all, 1);
  spec.step_count = 3;
  spec.data_bytes = 8;
  char before[4096], after[4096];
  CHECK(getcwd(before, sizeof before) != NULL);
  CHECK(finish(start(&spec, steps, "/proc\0\0")).value == 7);
  CHECK(getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0);
}

static void settings_may_not_do_everything(void) {
  const struct quasaur_step steps[] = {{.number = SYS_kill, .args = {0, 0}}};
  struct quasaur_spec spec = spec_of(nothing_at_all, 1);
  spec.step_count = 1;
  const struct quasaur_record record = finish(start(&spec, steps, NULL));
  CHECK(record.kind == QUASAUR_REFUSED && record.value == EPERM);
}

/* A filter that fails one call with an error, and allows the rest. */
#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define FAIL(call, error) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct quasaur_guest *start_filtered(test_function *function,
                                            const struct sock_filter *filter, uint32_t count,
                                            int32_t *error) {
  struct quasaur_spec spec = spec_of(function, 1);
  uint8_t data[4096];
  memset(data, 0x55, 16);
  memcpy(data + 16, filter, sizeof *filter * count);
  spec.filter_at = 16;
  spec.filter_count = count;
  spec.data_bytes = 16 + (uint32_t)sizeof *filter * count;
  return quasaur_guest_start(&spec, NULL, data, error);
}

static uint64_t run_filtered(test_function *function, const struct sock_filter *filter,
                             uint32_t count) {
  int32_t error = -1;
  struct quasaur_guest *guest = start_filtered(function, filter, count, &error);
  CHECK(guest != NULL && error == 0);
  const struct quasaur_record record = finish(guest);
  CHECK(record.kind == QUASAUR_RETURNED);
  return record.value;
}

static uint64_t try_calls(ARGUMENTS) {
  UNUSED;
  uint64_t right = 0;
  right += mkdirat(AT_FDCWD, "/nowhere/at/all", 0) == -1 && errno == EXDEV;
  right += open("/proc/self/comm", O_RDONLY) == -1 && errno == EACCES;
  right += syscall(SYS_getppid) > 0;
  right += syscall(SYS_kill, getpid(), 9) == -1 && errno == EPERM;
  void *memory = malloc(1 << 20);
  right += memory != NULL;
  free(memory);
  return right;
}

static void the_filter_of_the_caller_is_in_force_beside_ours(void) {
  const struct sock_filter filter[] = {
      LOAD_NUMBER, FAIL(SYS_mkdirat, EXDEV), FAIL(SYS_openat, EACCES), FAIL(SYS_mmap, ENOMEM),
      FAIL(SYS_brk, ENOMEM), ALLOW,
  };
  CHECK(run_filtered(try_calls, filter, sizeof filter / sizeof filter[0]) == 5);
  /* And of nobody else. */
  CHECK(result_of(try_calls) == 3);
}

static uint64_t take_memory(ARGUMENTS) {
  UNUSED;
  char *memory = malloc(3 << 20);
  if (memory == NULL) return 0;
  memset(memory, 1, 3 << 20);
  free(memory);
  return 8;
}

static void a_filter_that_fails_everything_lets_the_thread_end(void) {
  const struct sock_filter filter[] = {
      LOAD_NUMBER, BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)};
  CHECK(run_filtered(take_memory, filter, 2) == 8);
}

static void refuses_filters_that_kill_or_are_not_sound(void) {
  const struct sock_filter kills[] = {
      LOAD_NUMBER, BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
  const struct sock_filter traps[] = {LOAD_NUMBER, BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)};
  const struct sock_filter computed[] = {LOAD_NUMBER, BPF_STMT(BPF_RET | BPF_A, 0)};
  const struct sock_filter no_load[] = {ALLOW};
  const struct sock_filter wild_jump[] = {
      LOAD_NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 200, 200), ALLOW};
  int32_t error = 0;
  CHECK(start_filtered(take_memory, kills, 2, &error) == NULL && error == ENOEXEC);
  CHECK(start_filtered(take_memory, traps, 2, &error) == NULL && error == ENOEXEC);
  CHECK(start_filtered(take_memory, computed, 2, &error) == NULL && error == ENOEXEC);
  CHECK(start_filtered(take_memory, no_load, 1, &error) == NULL && error == ENOEXEC);
  CHECK(start_filtered(take_memory, wild_jump, 3, &error) == NULL && error == EINVAL);
  struct quasaur_spec spec = spec_of(take_memory, 1);
  spec.data_bytes = 16;
  spec.filter_at = 8;
  spec.filter_count = 2;
  const uint8_t data[16] = {0};
  CHECK(quasaur_guest_start(&spec, NULL, data, &error) == NULL && error == ENOEXEC);
}

static uint64_t mkdir_error(ARGUMENTS) {
  UNUSED;
  return mkdirat(AT_FDCWD, "/nowhere/at/all", 0) == -1 ? (uint64_t)errno : 0;
}

static void any_number_of_filters_can_be_used_in_turn(void) {
  for (uint32_t i = 0; i < 60; i++) {
    const uint32_t error = 40 + i % 20;
    const struct sock_filter filter[] = {LOAD_NUMBER, FAIL(SYS_mkdirat, error), ALLOW};
    CHECK(run_filtered(mkdir_error, filter, 4) == error);
  }
}

const struct test filter_tests[] = {
    {"denies what no guest needs", denies_what_no_guest_needs},
    {"denies forms of calls", denies_forms_of_calls},
    {"a guest makes no threads", a_guest_makes_no_threads},
    {"settings may do what guests may not", settings_may_do_what_guests_may_not},
    {"settings may not do everything", settings_may_not_do_everything},
    {"the filter of the caller is in force beside ours",
     the_filter_of_the_caller_is_in_force_beside_ours},
    {"a filter that fails everything lets the thread end",
     a_filter_that_fails_everything_lets_the_thread_end},
    {"refuses filters that kill or are not sound", refuses_filters_that_kill_or_are_not_sound},
    {"any number of filters can be used in turn", any_number_of_filters_can_be_used_in_turn},
    {NULL, NULL},
};
