/*
 * The seccomp filter of guest threads: one BPF program, made of two parts. The first is always the
 * same: it lists what an engine's WASI functions and the C library need; all other calls are
 * denied, and those that take descriptors or memory go to the supervisor (supervisor.c). Behind it
 * comes the filter of the caller, for the calls that may as well be forbidden. One program, and not
 * two, because the caller's part must not have a say in the few calls without which a thread could
 * not even end.
 *
 * Threads do not put it into force: they inherit it (starter.c), because that takes no time. So a
 * thread has it already when it makes its settings, and it makes them by the one system call
 * instruction (calls.c) that the filter knows by its address.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What happens to a call. */
enum action {
  DENY = 0,   /* EPERM, but for settings of threads */
  NEVER,      /* EPERM */
  UNKNOWN,    /* ENOSYS: newer than this list, so that the C library takes its older way */
  PASS,       /* the caller's filter decides; without one it is allowed */
  ALWAYS,     /* allowed, whatever the caller's filter says */
  RECORD,     /* ALWAYS for the pipe of records, else PASS */
  DESCRIPTOR, /* to the supervisor, which makes it where PASS lets it; waits go there too */
  MEMORY,     /* to the supervisor, which makes it */
  MAP,        /* NEVER for executable memory, else MEMORY */
  FCNTL,      /* NEVER for the commands that make descriptors, else PASS */
  LIMIT,      /* NEVER for setting a limit of the process, else PASS */
  THREAD,     /* ALWAYS for the starter, else NEVER */
  ACTIONS,
};

/* Calls that are not listed are DENY. */
static const struct rule {
  uint16_t number;
  uint8_t action;
} RULES[] = {
    /* Signals (WASI's proc_raise is a plain raise(3) in engines), programs, processes, threads. */
    {SYS_kill, NEVER},
    {SYS_tkill, NEVER},
    {SYS_tgkill, NEVER},
    {SYS_rt_sigqueueinfo, NEVER},
    {SYS_rt_tgsigqueueinfo, NEVER},
    {SYS_pidfd_send_signal, NEVER},
    {SYS_execve, NEVER},
    {SYS_execveat, NEVER},
    {SYS_clone, NEVER},
    {SYS_clone3, THREAD},
    {SYS_ptrace, NEVER},
    {SYS_process_vm_readv, NEVER},
    {SYS_process_vm_writev, NEVER},
    {SYS_pidfd_open, NEVER},
    {SYS_pidfd_getfd, NEVER},
    /* The kernel itself, and ways around the supervisor. */
    {SYS_bpf, NEVER},
    {SYS_perf_event_open, NEVER},
    {SYS_kexec_load, NEVER},
    {SYS_init_module, NEVER},
    {SYS_finit_module, NEVER},
    {SYS_delete_module, NEVER},
    {SYS_add_key, NEVER},
    {SYS_request_key, NEVER},
    {SYS_keyctl, NEVER},
    {SYS_userfaultfd, NEVER},
    {SYS_io_uring_setup, NEVER},
    {SYS_io_uring_enter, NEVER},
    {SYS_io_uring_register, NEVER},
    {SYS_open_by_handle_at, NEVER},
    {SYS_reboot, NEVER},
    {SYS_swapon, NEVER},
    {SYS_swapoff, NEVER},
    {SYS_personality, NEVER},
    /* Without these a thread can neither run nor end; they reach nothing outside of it. */
    {SYS_exit, ALWAYS},
    {SYS_exit_group, ALWAYS}, /* the C library's last resort in abort(3) */
    {SYS_rt_sigreturn, ALWAYS},
    {SYS_rt_sigprocmask, ALWAYS},
    {SYS_sigaltstack, ALWAYS},
    {SYS_restart_syscall, ALWAYS},
    {SYS_futex, ALWAYS},
    {SYS_set_robust_list, ALWAYS},
    {SYS_rseq, ALWAYS},
    {SYS_sched_yield, ALWAYS},
    {SYS_clock_gettime, ALWAYS},
    {SYS_gettid, ALWAYS},
    {SYS_getpid, ALWAYS},
    {SYS_getrandom, ALWAYS}, /* engines end the process when they get no random bytes */
    {SYS_sched_getaffinity, ALWAYS}, /* the allocator asks how many CPUs there are */
    {SYS_ppoll, ALWAYS},
    {SYS_write, RECORD},
    /* An engine that gets no memory ends the process. */
    {SYS_madvise, ALWAYS},
    {SYS_munmap, MEMORY},
    {SYS_brk, MEMORY},
    {SYS_mremap, MEMORY},
    {SYS_mmap, MAP},
    {SYS_mprotect, MAP},
    /* Descriptors. */
    {SYS_close, DESCRIPTOR},
    {SYS_openat, DESCRIPTOR},
    {SYS_socket, DESCRIPTOR},
    {SYS_accept, DESCRIPTOR},
    {SYS_accept4, DESCRIPTOR},
    {SYS_dup, DESCRIPTOR},
    {SYS_epoll_create1, DESCRIPTOR},
    {SYS_timerfd_create, DESCRIPTOR},
    {SYS_fcntl, FCNTL},
    /* Files. */
    {SYS_read, PASS},
    {SYS_readv, PASS},
    {SYS_writev, PASS},
    {SYS_pread64, PASS},
    {SYS_pwrite64, PASS},
    {SYS_preadv, PASS},
    {SYS_pwritev, PASS},
    {SYS_preadv2, PASS},
    {SYS_pwritev2, PASS},
    {SYS_lseek, PASS},
    {SYS_fstat, PASS},
    {SYS_newfstatat, PASS},
    {SYS_statx, PASS},
    {SYS_statfs, PASS},
    {SYS_fstatfs, PASS},
    {SYS_faccessat, PASS},
    {SYS_faccessat2, PASS},
    {SYS_readlinkat, PASS},
    {SYS_getdents64, PASS},
    {SYS_getcwd, PASS},
    {SYS_mkdirat, PASS},
    {SYS_unlinkat, PASS},
    {SYS_renameat, PASS},
    {SYS_renameat2, PASS},
    {SYS_linkat, PASS},
    {SYS_symlinkat, PASS},
    {SYS_utimensat, PASS},
    {SYS_ftruncate, PASS},
    {SYS_fallocate, PASS},
    {SYS_fadvise64, PASS},
    {SYS_fsync, PASS},
    {SYS_fdatasync, PASS},
    {SYS_ioctl, PASS},
    /* Sockets. */
    {SYS_bind, PASS},
    {SYS_connect, PASS},
    {SYS_listen, PASS},
    {SYS_shutdown, PASS},
    {SYS_getsockname, PASS},
    {SYS_getpeername, PASS},
    {SYS_getsockopt, PASS},
    {SYS_setsockopt, PASS},
    {SYS_sendto, PASS},
    {SYS_recvfrom, PASS},
    {SYS_sendmsg, PASS},
    {SYS_recvmsg, PASS},
    {SYS_sendmmsg, PASS},
    {SYS_recvmmsg, PASS},
    /* Waiting and time. */
    {SYS_pselect6, PASS},
    {SYS_epoll_ctl, PASS},
    {SYS_epoll_pwait, DESCRIPTOR},
    {SYS_epoll_pwait2, PASS},
    {SYS_timerfd_settime, PASS},
    {SYS_timerfd_gettime, PASS},
    {SYS_nanosleep, PASS},
    {SYS_clock_nanosleep, PASS},
    {SYS_clock_getres, PASS},
    {SYS_gettimeofday, PASS},
    /* Questions without effects, and the handlers of faults that an engine installs. */
    {SYS_getuid, PASS},
    {SYS_geteuid, PASS},
    {SYS_getgid, PASS},
    {SYS_getegid, PASS},
    {SYS_getppid, PASS},
    {SYS_getpriority, PASS},
    {SYS_getrusage, PASS},
    {SYS_getcpu, PASS},
    {SYS_sysinfo, PASS},
    {SYS_uname, PASS},
    {SYS_prlimit64, LIMIT},
    {SYS_rt_sigaction, PASS},
#if defined(__x86_64__)
    /* Older forms that aarch64 does not have. */
    {SYS_fork, NEVER},
    {SYS_vfork, NEVER},
    {SYS_open, DESCRIPTOR},
    {SYS_poll, ALWAYS},
    {SYS_stat, PASS},
    {SYS_lstat, PASS},
    {SYS_access, PASS},
    {SYS_readlink, PASS},
    {SYS_mkdir, PASS},
    {SYS_rmdir, PASS},
    {SYS_unlink, PASS},
    {SYS_rename, PASS},
    {SYS_link, PASS},
    {SYS_symlink, PASS},
    {SYS_pause, PASS},
    {SYS_select, PASS},
    {SYS_epoll_wait, DESCRIPTOR},
    {SYS_time, PASS},
    {SYS_getrlimit, PASS},
#endif
};

/* Numbers from here on did not exist when the list was made (Linux 6.18). */
#define NUMBERS_END 471u
#define X32_NUMBERS 0x40000000u

/* A jump of BPF reaches 255 instructions; the part that is always there must be shorter. */
#define OWN_PART_MAX 250u
#define CALLER_PART_MAX (BPF_MAXINSNS - OWN_PART_MAX)

#define DATA_LOW(index) (offsetof(struct seccomp_data, args) + (index) * 8)
#define DATA_HIGH(index) (DATA_LOW(index) + 4)
#define DATA_IP_LOW offsetof(struct seccomp_data, instruction_pointer)
#define DATA_IP_HIGH (DATA_IP_LOW + 4)

/* Numbers of the same action that follow each other. */
struct run {
  uint32_t first;
  enum action action;
};

/* A program in the making. A jump to an action is noted and filled in when its place is known. */
struct builder {
  struct sock_filter *program;
  const struct filter_frame *frame;
  uint32_t count;
  bool overflow;
  uint32_t places[ACTIONS];
  struct {
    uint32_t at;
    bool when_true;
    enum action action;
  } jumps[2 * OWN_PART_MAX];
  uint32_t jump_count;
};

static uint32_t emit(struct builder *builder, uint16_t code, uint32_t k) {
  if (builder->count >= OWN_PART_MAX) {
    builder->overflow = true;
    return 0;
  }
  builder->program[builder->count] = (struct sock_filter){.code = code, .k = k};
  return builder->count++;
}

static void note_jump(struct builder *builder, uint32_t at, bool when_true, enum action action) {
  if (builder->jump_count >= sizeof builder->jumps / sizeof builder->jumps[0]) {
    builder->overflow = true;
    return;
  }
  builder->jumps[builder->jump_count].at = at;
  builder->jumps[builder->jump_count].when_true = when_true;
  builder->jumps[builder->jump_count].action = action;
  builder->jump_count++;
}

/* "if (A <code> k) goto action". Falls through otherwise. */
static void emit_branch(struct builder *builder, uint16_t code, uint32_t k, enum action action) {
  note_jump(builder, emit(builder, BPF_JMP | code | BPF_K, k), true, action);
}

static void emit_load(struct builder *builder, size_t offset) {
  (void)emit(builder, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

static void emit_goto(struct builder *builder, enum action action) {
  /* A comparison that holds or not leads to the same place: unlike BPF_JA it is filled in alike. */
  const uint32_t at = emit(builder, BPF_JMP | BPF_JEQ | BPF_K, 0);
  note_jump(builder, at, true, action);
  note_jump(builder, at, false, action);
}

/* A binary search for the run that the number (in A) lies in: eight steps at most. */
static void emit_search(struct builder *builder, const struct run *runs, uint32_t first,
                        uint32_t count) {
  const uint32_t left = count / 2;
  const uint32_t at = emit(builder, BPF_JMP | BPF_JGE | BPF_K, runs[first + left].first);
  if (builder->overflow) return;
  if (left == 1) {
    note_jump(builder, at, false, runs[first].action);
  } else {
    emit_search(builder, runs, first, left);
  }
  if (count - left == 1) {
    note_jump(builder, at, true, runs[first + left].action);
  } else {
    const uint32_t distance = builder->count - at - 1;
    if (distance > UINT8_MAX) builder->overflow = true;
    builder->program[at].jt = (uint8_t)distance;
    emit_search(builder, runs, first + left, count - left);
  }
}

/* Where the call comes from our own instruction, go to `action`; else return `otherwise`. */
static void emit_own(struct builder *builder, enum action action, uint32_t otherwise) {
  const uint64_t address = (uint64_t)(uintptr_t)quasaur_supervised_return;
  emit_load(builder, DATA_IP_LOW);
  const uint32_t low = emit(builder, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)address);
  builder->program[low].jf = 2; /* to the return */
  emit_load(builder, DATA_IP_HIGH);
  emit_branch(builder, BPF_JEQ, (uint32_t)(address >> 32), action);
  (void)emit(builder, BPF_RET | BPF_K, otherwise);
}

/*
 * clone3(2) is for the starter alone. What tells it from guests is where the structure lies that
 * the C library describes the new thread by: on the stack of the thread that asks.
 */
static void emit_thread(struct builder *builder) {
  const struct filter_frame *frame = builder->frame;
  emit_load(builder, DATA_HIGH(0));
  uint32_t at = emit(builder, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(frame->start >> 32));
  note_jump(builder, at, false, NEVER);
  emit_load(builder, DATA_LOW(0));
  at = emit(builder, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)frame->start);
  note_jump(builder, at, false, NEVER);
  emit_branch(builder, BPF_JGE, (uint32_t)frame->end, NEVER);
  emit_goto(builder, ALWAYS);
}

/* Jumps lead forward only, so what others lead to comes last. */
static void emit_actions(struct builder *builder) {
  uint32_t *places = builder->places;
  places[DESCRIPTOR] = builder->count;
  emit_own(builder, PASS, SECCOMP_RET_TRAP);
  places[MAP] = builder->count;
  emit_load(builder, DATA_LOW(2)); /* the protection, in mmap and mprotect */
  emit_branch(builder, BPF_JSET, PROT_EXEC, NEVER);
  places[MEMORY] = builder->count;
  emit_own(builder, ALWAYS, SECCOMP_RET_TRAP);
  places[FCNTL] = builder->count;
  emit_load(builder, DATA_LOW(1));
  emit_branch(builder, BPF_JEQ, F_DUPFD, NEVER);
  emit_branch(builder, BPF_JEQ, F_DUPFD_CLOEXEC, NEVER);
  emit_goto(builder, PASS);
  places[LIMIT] = builder->count;
  emit_load(builder, DATA_LOW(2)); /* the address of the new limit */
  note_jump(builder, emit(builder, BPF_JMP | BPF_JEQ | BPF_K, 0), false, NEVER);
  emit_load(builder, DATA_HIGH(2));
  note_jump(builder, emit(builder, BPF_JMP | BPF_JEQ | BPF_K, 0), false, NEVER);
  emit_goto(builder, PASS);
  places[RECORD] = builder->count;
  emit_load(builder, DATA_LOW(0));
  emit_branch(builder, BPF_JEQ, (uint32_t)builder->frame->record_fd, ALWAYS);
  emit_goto(builder, PASS);
  places[THREAD] = builder->count;
  emit_thread(builder);
  places[DENY] = builder->count;
  emit_own(builder, ALWAYS, SECCOMP_RET_ERRNO | EPERM);
  places[NEVER] = emit(builder, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  places[UNKNOWN] = emit(builder, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  places[ALWAYS] = emit(builder, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  places[PASS] = builder->count;
}

static void fill_in_jumps(struct builder *builder) {
  for (uint32_t i = 0; i < builder->jump_count; i++) {
    const uint32_t at = builder->jumps[i].at;
    const uint32_t distance = builder->places[builder->jumps[i].action] - at - 1;
    if (distance > UINT8_MAX) builder->overflow = true;
    if (builder->jumps[i].when_true) {
      builder->program[at].jt = (uint8_t)distance;
    } else {
      builder->program[at].jf = (uint8_t)distance;
    }
  }
}

static uint32_t find_runs(struct run *runs) {
  uint8_t actions[NUMBERS_END] = {DENY};
  for (size_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
    actions[RULES[i].number] = RULES[i].action;
  }
  uint32_t count = 0;
  for (uint32_t number = 0; number < NUMBERS_END; number++) {
    if (number > 0 && actions[number] == actions[number - 1]) continue;
    runs[count++] = (struct run){.first = number, .action = actions[number]};
  }
  runs[count++] = (struct run){.first = NUMBERS_END, .action = UNKNOWN};
#if defined(__x86_64__)
  /* The x32 numbers share the audit arch of x86-64. */
  runs[count++] = (struct run){.first = X32_NUMBERS, .action = NEVER};
#endif
  return count;
}

static void build(struct builder *builder, struct run *runs) {
  emit_load(builder, offsetof(struct seccomp_data, arch));
  note_jump(builder, emit(builder, BPF_JMP | BPF_JEQ | BPF_K, GUEST_ARCH), false, NEVER);
  emit_load(builder, offsetof(struct seccomp_data, nr));
  emit_search(builder, runs, 0, find_runs(runs));
  emit_actions(builder);
  fill_in_jumps(builder);
}

/*
 * Whether a caller's filter may be put behind ours: it begins with a load, because it begins with
 * our registers, and does nothing but allow calls, fail them and log them. All else would end the
 * process with all guests in it, or wait for a tracer that is not there. That its jumps
 * are sound is for the kernel to say.
 */
bool quasaur_filter_is_sound(const struct sock_filter *filter, uint32_t count) {
  if (count == 0 || count > CALLER_PART_MAX || BPF_CLASS(filter[0].code) != BPF_LD) return false;
  for (uint32_t i = 0; i < count; i++) {
    if (BPF_CLASS(filter[i].code) != BPF_RET) continue;
    if (BPF_RVAL(filter[i].code) != BPF_K) return false;
    const uint32_t action = filter[i].k & SECCOMP_RET_ACTION_FULL;
    if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_ERRNO && action != SECCOMP_RET_LOG) {
      return false;
    }
  }
  return true;
}

/*
 * Puts a filter for the calling thread, and the threads that it will make, into force.
 *
 * SPEC_ALLOW is left out on purpose: where an administrator has chosen mitigations for filtered
 * threads, guests keep them.
 */
int quasaur_filter_enforce(const struct filter_frame *frame, const struct sock_filter *filter,
                           uint32_t count) {
  static const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const uint32_t own_count = count == 0 ? 1 : count;
  if (frame->start >> 32 != frame->end >> 32) return EFAULT; /* the program compares halves */
  struct workspace {
    struct builder builder;
    struct run runs[NUMBERS_END + 2];
    struct sock_filter program[];
  } *work = calloc(1, sizeof *work + sizeof allow * (OWN_PART_MAX + own_count));
  if (work == NULL) return ENOMEM;
  work->builder.program = work->program;
  work->builder.frame = frame;
  build(&work->builder, work->runs);
  int error = work->builder.overflow ? E2BIG : 0;
  if (error == 0) {
    memcpy(work->program + work->builder.count, count == 0 ? &allow : filter,
           sizeof allow * own_count);
    struct sock_fprog program = {
        .len = (unsigned short)(work->builder.count + own_count),
        .filter = work->program,
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) error = errno;
  }
  free(work);
  return error;
}
