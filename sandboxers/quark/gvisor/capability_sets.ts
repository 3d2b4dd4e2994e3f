/**
 * Sets of capabilities as numbers, a bit for each (linux/capability.h), as gVisor takes them.
 *
 * @module
 */

/** In the order of their numbers. */
const NAMES = [
  "CHOWN",
  "DAC_OVERRIDE",
  "DAC_READ_SEARCH",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "SETPCAP",
  "LINUX_IMMUTABLE",
  "NET_BIND_SERVICE",
  "NET_BROADCAST",
  "NET_ADMIN",
  "NET_RAW",
  "IPC_LOCK",
  "IPC_OWNER",
  "SYS_MODULE",
  "SYS_RAWIO",
  "SYS_CHROOT",
  "SYS_PTRACE",
  "SYS_PACCT",
  "SYS_ADMIN",
  "SYS_BOOT",
  "SYS_NICE",
  "SYS_RESOURCE",
  "SYS_TIME",
  "SYS_TTY_CONFIG",
  "MKNOD",
  "LEASE",
  "AUDIT_WRITE",
  "AUDIT_CONTROL",
  "SETFCAP",
  "MAC_OVERRIDE",
  "MAC_ADMIN",
  "SYSLOG",
  "WAKE_ALARM",
  "BLOCK_SUSPEND",
  "AUDIT_READ",
  "PERFMON",
  "BPF",
  "CHECKPOINT_RESTORE",
];

/**
 * A set of capabilities as a number. Names that are not known here are left out: gVisor has none of
 * what they would allow.
 *
 * @param names Such as `CAP_CHOWN` (capabilities(7)).
 * @param except Names that are left out.
 */
export function capabilityBits(names: readonly string[], except: readonly string[] = []): number {
  const numbers = names.filter((name) => !except.includes(name))
    .map((name) => NAMES.indexOf(name.replace(/^CAP_/, "")))
    .filter((number) => number >= 0);
  // Fewer than 53 bits, so that a number has them all.
  return [...new Set(numbers)].reduce((sum, number) => sum + 2 ** number, 0);
}
