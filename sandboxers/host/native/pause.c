/* The program of a pod's root container: it waits for ever, and has the kernel forget what its pod's
 * orphans leave behind. Without a C library, so that the sentry has next to nothing to load. */
#include <asm/signal.h>
#include <asm/unistd.h>

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d) {
  register long fourth __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}
#else
#error "gVisor runs on x86_64 and aarch64 only"
#endif

/* What rt_sigaction(2) takes on both. */
struct action {
  unsigned long handler;
  unsigned long flags;
  unsigned long restorer;
  unsigned long mask;
};

/* SIG_IGN. Not on the stack: at the start of a program that is not aligned as the compiler thinks. */
static const struct action ignored = {1, 0, 0, 0};

void _start(void);

__attribute__((noreturn)) void _start(void) {
  (void)call(__NR_rt_sigaction, SIGCHLD, (long)&ignored, 0, sizeof ignored.mask);
  for (;;) (void)call(__NR_ppoll, 0, 0, 0, 0);
}
