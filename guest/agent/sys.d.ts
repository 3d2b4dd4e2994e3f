/**
 * The system calls of the guest agent: the native module `sys` that is compiled into the agent
 * (see `native/`). It is thin: one function is one or a few system calls. Nothing here throws for
 * what the kernel says: a failed call answers `-errno`, a call with a result of its own answers
 * that or the negative number. A wrong type or an offset outside of a buffer throws a TypeError or
 * a RangeError. Every descriptor that is made here is close-on-exec.
 *
 * Import it as `import * as sys from "./sys.js"`; constants are in `linux.ts`, names of errors in
 * `errno.ts`. Text is UTF-8 on its way in and out; bytes that are not are replaced.
 *
 * @module
 */

/** What stat(2) says about a file. */
export interface FileStat {
  /** Type and permissions (st_mode). */
  readonly mode: number;
  /** Bytes. */
  readonly size: number;
  /** Inode number. */
  readonly ino: number;
  /** Device that holds it. */
  readonly dev: number;
  /** Major number of the device that it is, for device nodes. */
  readonly rdevMajor: number;
  /** Minor number of the device that it is, for device nodes. */
  readonly rdevMinor: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Hard links. */
  readonly nlink: number;
  /** Last change of the content, milliseconds since the epoch. */
  readonly mtimeMs: number;
}

/** What statfs(2) says about a file system. */
export interface FileSystemStat {
  /** Its magic number (f_type). */
  readonly type: number;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Free for everybody, in bytes. */
  readonly availableBytes: number;
}

/** What uname(2) says. */
export interface SystemName {
  /** `Linux`. */
  readonly system: string;
  /** The hostname. */
  readonly hostname: string;
  /** The kernel's release. */
  readonly release: string;
  /** The kernel's version. */
  readonly version: string;
  /** Such as `x86_64`. */
  readonly machine: string;
}

// ---- the process and its arguments ----

/** The arguments of the agent, its own name first. */
export function args(): string[];
/** A variable of the environment; null where it is not set. */
export function getenv(name: string): string | null;
/** getpid(2). */
export function getpid(): number;
/** uname(2). */
export function uname(): SystemName;
/** Ends the process with _exit(2). As PID 1 that would panic the kernel: then it answers -EPERM. */
export function exit(status: number): number;
/** Writes text to descriptor 2, as much as fits now. */
export function printError(text: string): number;
/** Bytes that the JavaScript heap uses now. */
export function heapBytes(): number;
/** Collects garbage and hands free memory back to the kernel. */
export function collectGarbage(): number;

// ---- files ----

/** open(2) with O_CLOEXEC. `mode` (default 0o644) counts for a new file. Answers a descriptor. */
export function open(path: string, flags: number, mode?: number): number;
/** openat(2) with O_CLOEXEC. */
export function openat(directory: number, path: string, flags: number, mode?: number): number;
/** close(2). */
export function close(fd: number): number;
/** read(2) into a buffer at an offset; answers the count, 0 at the end. */
export function read(fd: number, buffer: ArrayBufferLike, offset: number, length: number): number;
/** write(2) from a buffer at an offset; answers the count. Never raises SIGPIPE. */
export function write(fd: number, buffer: ArrayBufferLike, offset: number, length: number): number;
/** read(2) into a whole array; answers the count, 0 at the end. */
export function readInto(fd: number, bytes: Uint8Array): number;
/** write(2) of an array from `start` on, `lengthMax` bytes at most; answers the count. */
export function writeFrom(fd: number, bytes: Uint8Array, start: number, lengthMax: number): number;
/** pread(2). */
export function pread(
  fd: number,
  buffer: ArrayBufferLike,
  offset: number,
  length: number,
  position: number,
): number;
/** pwrite(2). */
export function pwrite(
  fd: number,
  buffer: ArrayBufferLike,
  offset: number,
  length: number,
  position: number,
): number;
/** A whole file as text; also of /proc, /sys and cgroups. More than `maxBytes` (default 1 MiB) is -EFBIG. */
export function readFile(path: string, maxBytes?: number): string | number;
/**
 * Writes text with one write(2), as /proc, /sys and cgroup files want it. `flags` default to
 * O_WRONLY|O_CREAT|O_TRUNC, `mode` to 0o644. A short write is -EIO. Answers 0.
 */
export function writeFile(path: string, text: string, flags?: number, mode?: number): number;
/** ftruncate(2). */
export function ftruncate(fd: number, length: number): number;
/** fsync(2). */
export function fsync(fd: number): number;
/** sync(2). */
export function sync(): number;
/** mkdir(2). */
export function mkdir(path: string, mode: number): number;
/** Makes a directory with all above it that are missing (mode 0o755 for those); fine where it exists. */
export function mkdirAll(path: string, mode: number): number;
/** rmdir(2). */
export function rmdir(path: string): number;
/** unlink(2). */
export function unlink(path: string): number;
/** Removes a file or a whole directory tree; never crosses into another mount (-EXDEV) or a link. */
export function removeAll(path: string): number;
/** rename(2). */
export function rename(from: string, to: string): number;
/** link(2). */
export function link(from: string, to: string): number;
/** symlink(2): `path` will point to `target`. */
export function symlink(target: string, path: string): number;
/** readlink(2). */
export function readlink(path: string): string | number;
/** realpath(3): an absolute path without links. */
export function realpath(path: string): string | number;
/** chmod(2). */
export function chmod(path: string, mode: number): number;
/** lchown(2): of the link itself. */
export function lchown(path: string, uid: number, gid: number): number;
/** fchmod(2). */
export function fchmod(fd: number, mode: number): number;
/** fchown(2). */
export function fchown(fd: number, uid: number, gid: number): number;
/** mknod(2); `mode` with the type, such as S_IFCHR | 0o666. */
export function mknod(path: string, mode: number, major: number, minor: number): number;
/** umask(2); answers the old one. */
export function umask(mask: number): number;
/** stat(2), follows links. */
export function stat(path: string): FileStat | number;
/** lstat(2), does not follow a link at the end. */
export function lstat(path: string): FileStat | number;
/** fstat(2). */
export function fstat(fd: number): FileStat | number;
/** statfs(2). */
export function statfs(path: string): FileSystemStat | number;
/** Names in a directory, without `.` and `..`, sorted by bytes. */
export function readdir(path: string): string[] | number;
/** access(2). */
export function access(path: string, mode: number): number;

// ---- text and bytes ----

/** Decodes UTF-8 of part of a buffer. */
export function decodeUtf8(buffer: ArrayBufferLike, offset: number, length: number): string;
/** Encodes text as UTF-8 into a buffer at an offset; answers the count, -ENOSPC where it does not fit. */
export function encodeUtf8(text: string, buffer: ArrayBufferLike, offset: number): number;
/** Decodes base64 (with or without padding, no white space); -EINVAL where it is not. */
export function decodeBase64(text: string): ArrayBuffer | number;
/** Encodes part of a buffer as base64 with padding. */
export function encodeBase64(buffer: ArrayBufferLike, offset: number, length: number): string;

// ---- mounts, roots and name spaces ----

/** mount(2). */
export function mount(
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): number;
/** umount2(2). */
export function umount(target: string, flags: number): number;
/** chroot(2). */
export function chroot(path: string): number;
/** chdir(2). */
export function chdir(path: string): number;
/** unshare(2) of the agent itself. */
export function unshare(flags: number): number;
/** setns(2) of the agent itself. */
export function setns(fd: number, type: number): number;

/** BLKFLSBUF: forgets what was cached of the disk that is open as `fd`. */
export function flushDisk(fd: number): number;

// ---- descriptors and events ----

/** pipe2(2) with O_CLOEXEC | `flags`: read end, write end. */
export function pipe(flags: number): readonly [number, number] | number;
/** dup(2), close-on-exec. */
export function dup(fd: number): number;
/** Sets O_NONBLOCK. */
export function setNonblocking(fd: number): number;
/** Makes the pipe's buffer this large in bytes (F_SETPIPE_SZ). */
export function setPipeSize(fd: number, bytes: number): number;
/** A new pseudo terminal of this size: master (non-blocking), slave. */
export function openPty(columns: number, rows: number): readonly [number, number] | number;
/** TIOCSWINSZ. */
export function setWindowSize(fd: number, columns: number, rows: number): number;
/** Watches a descriptor; use `watch` of `loop.ts` instead. */
export function epollAdd(fd: number, events: number): number;
/** Changes what a descriptor is watched for. */
export function epollModify(fd: number, events: number): number;
/** Ends watching a descriptor. */
export function epollRemove(fd: number): number;
/**
 * Says what the native loop calls, once at start, by `loop.ts`: `dispatch` for each ready
 * descriptor; `tick` before each wait, runs timers that are due and answers how many milliseconds
 * the loop may wait (-1: for ever); `failed` for whatever one of them, or a job, throws, and for
 * rejected promises that nobody handled.
 */
export function setLoop(
  dispatch: (fd: number, events: number) => void,
  tick: () => number,
  failed: (message: string) => void,
): number;
/** poll(2) of one descriptor: the events that came, 0 after the time. Blocks the whole agent. */
export function poll(fd: number, events: number, timeoutMs: number): number;
/** A non-blocking inotify descriptor; read it as bytes. */
export function inotifyInit(): number;
/** inotify_add_watch(2); answers the watch's number. */
export function inotifyAddWatch(fd: number, path: string, mask: number): number;
/** inotify_rm_watch(2). */
export function inotifyRemoveWatch(fd: number, watch: number): number;

// ---- processes ----

/**
 * Starts a program without a copy of the agent's memory.
 *
 * @param argv The program, looked up in PATH of `env` where it has no slash, and its arguments.
 * @param env `NAME=value` each.
 * @param cwd Working directory; null for the agent's.
 * @param fds The agent's descriptor for each of the child's 0..n-1; -1 for /dev/null.
 * @param flags SPAWN_* of `linux.ts`.
 * @param nsFd Descriptor of a pid name space (`/proc/PID/ns/pid`) to start it in; default none.
 * @returns The pid, or -errno: also where execve(2) or one of the steps before it failed.
 */
export function spawn(
  argv: readonly string[],
  env: readonly string[],
  cwd: string | null,
  fds: readonly number[],
  flags: number,
  nsFd?: number,
): number;
/** A process to start inside of a container; see {@link enter}. */
export interface EnterProcess {
  /** A process of the container (pidfd_open(2)), whose name spaces are entered. */
  readonly pidfd: number;
  /** The container's cgroup, an open directory. */
  readonly cgroup: number;
  /** The program and its arguments. */
  readonly args: readonly string[];
  /** `NAME=value` each; HOME is added where it is missing. */
  readonly env: readonly string[];
  /** Its working directory, inside. */
  readonly cwd: string;
  /** The agent's descriptors for 0, 1 and 2; -1 is /dev/null. */
  readonly fds: readonly number[];
  /** Its user. */
  readonly uid: number;
  /** Its group. */
  readonly gid: number;
  /** Its further groups. */
  readonly groups: readonly number[];
  /** See umask(2). */
  readonly umask: number;
  /** See proc_pid_oom_score_adj(5). */
  readonly oomScoreAdj: number;
  /** 1 where it cannot gain rights by executing, else 0. */
  readonly noNewPrivileges: number;
  /** setrlimit(2): resource, soft, hard one after the other; -1 is no limit. */
  readonly limits: readonly number[];
  /** Bounding, effective, permitted, inheritable, ambient: lower and upper 32 bits of each. */
  readonly capabilities: readonly number[];
  /** A program for seccomp(2) as the kernel takes it; null for none. */
  readonly filter: ArrayBuffer | null;
  /** SECCOMP_FILTER_FLAG_*. */
  readonly filterFlags: number;
}

/**
 * Starts a process inside of a container.
 *
 * @returns Its pid, and a descriptor that ends when it has executed; before that, where it cannot,
 *   two numbers of 32 bits come: the step that failed (see `enter.ts`) and the errno.
 */
export function enter(process: EnterProcess): readonly [number, number] | number;
/** A container to make; see {@link create}. */
export interface CreateProcess extends Omit<EnterProcess, "pidfd"> {
  /** The directory of its root. */
  readonly root: string;
  /** 1 where it cannot write to its root, else 0. */
  readonly readonly: number;
  /** How its root is built: four for each operation, see `creation.ts`. */
  readonly texts: readonly string[];
  /** How its root is built: six for each operation. */
  readonly numbers: readonly number[];
}

/**
 * Makes a container with its init process, which waits to be let go.
 *
 * @returns Its pid; a descriptor that two numbers of 32 bits come from, zeros when it is ready, else
 *   the step that failed (see `enter.ts`) and the errno; and one to let it go by writing a byte, or
 *   to end it by closing.
 */
export function create(process: CreateProcess): readonly [number, number, number] | number;
/**
 * Hands the kernel a program that decides which devices may be used
 * (BPF_PROG_TYPE_CGROUP_DEVICE).
 *
 * @returns A descriptor.
 */
export function loadDeviceFilter(program: ArrayBuffer, offset: number, length: number): number;
/** Has such a program decide for the processes of a cgroup, which keeps it. */
export function filterDevices(cgroup: number, filter: number): number;
/**
 * Starts the init of a new pid name space: it only reaps what ends in there. It dies with the
 * agent. Its name space is `/proc/PID/ns/pid`. Killing it (SIGKILL) kills all in there.
 */
export function spawnPidNamespace(): number;
/** kill(2); a negative pid is a process group. */
export function kill(pid: number, signal: number): number;
/** pidfd_open(2). */
export function pidfdOpen(pid: number): number;
/** pidfd_send_signal(2). */
export function pidfdSignal(pidfd: number, signal: number): number;
/** Orphans below the agent become its children (PR_SET_CHILD_SUBREAPER). PID 1 has that anyway. */
export function setSubreaper(): number;
/** Blocks SIGCHLD and answers a non-blocking signalfd for it. */
export function childSignalFd(): number;
/**
 * Reaps children that have ended, 128 at most per call: pid, exit status (128 + n after signal n),
 * 1 where a signal ended it else 0, for each one after the other.
 */
export function reap(): number[];
/** setrlimit(2); -1 is no limit. */
export function setrlimit(resource: number, soft: number, hard: number): number;

// ---- the machine ----

/** reboot(2) with a command of `linux.ts`; after sync(2). */
export function reboot(command: number): number;
/** sethostname(2). */
export function sethostname(name: string): number;
/** clock_gettime(2) in milliseconds with fraction. */
export function clock(id: number): number;
/** Sets CLOCK_REALTIME, milliseconds since the epoch. */
export function setTime(timeMs: number): number;
/** Opens what {@link addEntropy} writes to, which then stays open. */
export function prepareEntropy(): number;
/** Adds entropy that counts (RNDADDENTROPY) and reseeds the kernel's generator; 4096 bytes at most. */
export function addEntropy(buffer: ArrayBufferLike, offset: number, length: number): number;
/** finit_module(2); modules that end in .xz or .zst are unpacked by the kernel if it can. */
export function loadModule(path: string, parameters: string): number;

// ---- sockets ----

/** socket(2) with SOCK_CLOEXEC | SOCK_NONBLOCK. For rtnetlink use `netlinkOpen`. */
export function socket(family: number, type: number, protocol: number): number;
/** A blocking AF_NETLINK raw socket, bound, whose reads give up after 5 s; use `write` and `read`. */
export function netlinkOpen(protocol: number, groups: number): number;
/** A listening unix socket at a path (97 bytes at most are portable; 107 fit). Non-blocking. */
export function unixListen(path: string, backlog: number): number;
/** Connects to a unix socket; the connection is non-blocking. */
export function unixConnect(path: string): number;
/** A listening vsock on every CID. Non-blocking. */
export function vsockListen(port: number): number;
/** Connects to a vsock; blocks until it is there. The connection is non-blocking. */
export function vsockConnect(cid: number, port: number): number;
/** accept4(2), non-blocking. */
export function accept(fd: number): number;
/** shutdown(2). */
export function shutdown(fd: number, how: number): number;
/**
 * Receives one descriptor (SCM_RIGHTS) and the bytes that come with it, which are thrown away.
 * -EAGAIN where nothing is there yet, -EPIPE at the end, -EPROTO where bytes came without one.
 */
export function receiveFd(fd: number): number;
