/*
 * The one system call instruction that the filters of guest threads know by its address: through it
 * a thread makes its settings (guest.c), and the supervisor the calls that it has looked at
 * (supervisor.c). Nobody else does.
 */
#include "internal.h"

/* int64_t quasaur_supervised_call(int64_t number, const uint64_t args[6]); */
#if defined(__x86_64__)
__asm__(
    "  .text\n"
    "  .p2align 4\n"
    "  .globl quasaur_supervised_call\n"
    "  .hidden quasaur_supervised_call\n"
    "  .type quasaur_supervised_call, @function\n"
    "quasaur_supervised_call:\n"
    "  .cfi_startproc\n"
    "  endbr64\n"
    "  mov %rdi, %rax\n"
    "  mov %rsi, %r11\n"
    "  mov 0(%r11), %rdi\n"
    "  mov 8(%r11), %rsi\n"
    "  mov 16(%r11), %rdx\n"
    "  mov 24(%r11), %r10\n"
    "  mov 32(%r11), %r8\n"
    "  mov 40(%r11), %r9\n"
    "  syscall\n"
    "  .globl quasaur_supervised_return\n"
    "  .hidden quasaur_supervised_return\n"
    "quasaur_supervised_return:\n"
    "  ret\n"
    "  .cfi_endproc\n"
    "  .size quasaur_supervised_call, . - quasaur_supervised_call\n");
#elif defined(__aarch64__)
__asm__(
    "  .text\n"
    "  .p2align 4\n"
    "  .globl quasaur_supervised_call\n"
    "  .hidden quasaur_supervised_call\n"
    "  .type quasaur_supervised_call, %function\n"
    "quasaur_supervised_call:\n"
    "  .cfi_startproc\n"
    "  hint #34\n" /* bti c */
    "  mov x8, x0\n"
    "  mov x9, x1\n"
    "  ldp x0, x1, [x9]\n"
    "  ldp x2, x3, [x9, #16]\n"
    "  ldp x4, x5, [x9, #32]\n"
    "  svc #0\n"
    "  .globl quasaur_supervised_return\n"
    "  .hidden quasaur_supervised_return\n"
    "quasaur_supervised_return:\n"
    "  ret\n"
    "  .cfi_endproc\n"
    "  .size quasaur_supervised_call, . - quasaur_supervised_call\n");
#endif
