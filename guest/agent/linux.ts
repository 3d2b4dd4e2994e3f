/**
 * Numbers of the Linux interface that the agent uses, under the kernel's own names. They are those
 * of x86-64 and arm64 where these agree; what differs is said.
 *
 * @module
 */

/** open(2). */
export const O_RDONLY = 0;
/** open(2). */
export const O_WRONLY = 1;
/** open(2). */
export const O_RDWR = 2;
/** open(2). */
export const O_CREAT = 0o100;
/** open(2). */
export const O_EXCL = 0o200;
/** open(2). */
export const O_NOCTTY = 0o400;
/** open(2). */
export const O_TRUNC = 0o1000;
/** open(2). */
export const O_APPEND = 0o2000;
/** open(2), pipe2(2). */
export const O_NONBLOCK = 0o4000;
/** open(2); x86-64 only, arm64 has another number. */
export const O_DIRECTORY = 0o200000;
/** open(2). */
export const O_PATH = 0o10000000;

/** stat(2): mask of the file type. */
export const S_IFMT = 0o170000;
/** stat(2). */
export const S_IFSOCK = 0o140000;
/** stat(2). */
export const S_IFLNK = 0o120000;
/** stat(2). */
export const S_IFREG = 0o100000;
/** stat(2). */
export const S_IFBLK = 0o060000;
/** stat(2). */
export const S_IFDIR = 0o040000;
/** stat(2). */
export const S_IFCHR = 0o020000;
/** stat(2). */
export const S_IFIFO = 0o010000;

/** epoll_ctl(2). */
export const EPOLLIN = 0x1;
/** epoll_ctl(2). */
export const EPOLLPRI = 0x2;
/** epoll_ctl(2). */
export const EPOLLOUT = 0x4;
/** epoll_ctl(2); always reported. */
export const EPOLLERR = 0x8;
/** epoll_ctl(2); always reported. */
export const EPOLLHUP = 0x10;
/** epoll_ctl(2). */
export const EPOLLRDHUP = 0x2000;
/** epoll_ctl(2): report changes, not states. */
export const EPOLLET = 0x80000000;

/** mount(2). */
export const MS_RDONLY = 1;
/** mount(2). */
export const MS_NOSUID = 2;
/** mount(2). */
export const MS_NODEV = 4;
/** mount(2). */
export const MS_NOEXEC = 8;
/** mount(2). */
export const MS_SYNCHRONOUS = 16;
/** mount(2). */
export const MS_REMOUNT = 32;
/** mount(2). */
export const MS_NOSYMFOLLOW = 256;
/** mount(2). */
export const MS_NOATIME = 1024;
/** mount(2). */
export const MS_NODIRATIME = 2048;
/** mount(2). */
export const MS_BIND = 4096;
/** mount(2). */
export const MS_MOVE = 8192;
/** mount(2). */
export const MS_REC = 16384;
/** mount(2). */
export const MS_SILENT = 32768;
/** mount(2). */
export const MS_PRIVATE = 1 << 18;
/** mount(2). */
export const MS_SLAVE = 1 << 19;
/** mount(2). */
export const MS_SHARED = 1 << 20;
/** mount(2). */
export const MS_RELATIME = 1 << 21;
/** mount(2). */
export const MS_STRICTATIME = 1 << 24;
/** umount2(2). */
export const MNT_FORCE = 1;
/** umount2(2). */
export const MNT_DETACH = 2;
/** umount2(2). */
export const UMOUNT_NOFOLLOW = 8;

/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWNS = 0x20000;
/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWCGROUP = 0x2000000;
/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWUTS = 0x4000000;
/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWIPC = 0x8000000;
/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWPID = 0x20000000;
/** clone(2), unshare(2), setns(2). */
export const CLONE_NEWNET = 0x40000000;

/** `spawn`: setsid(2). */
export const SPAWN_SESSION = 1;
/** `spawn`: descriptor 0 becomes the controlling terminal; wants SPAWN_SESSION. */
export const SPAWN_TERMINAL = 2;
/** `spawn`: the child is killed when the agent ends (PR_SET_PDEATHSIG). */
export const SPAWN_DIE_WITH_AGENT = 4;

/** kill(2). */
export const SIGHUP = 1;
/** kill(2). */
export const SIGINT = 2;
/** kill(2). */
export const SIGQUIT = 3;
/** kill(2). */
export const SIGKILL = 9;
/** kill(2). */
export const SIGTERM = 15;
/** kill(2). */
export const SIGCHLD = 17;
/** kill(2). */
export const SIGCONT = 18;
/** kill(2). */
export const SIGSTOP = 19;
/** kill(2). */
export const SIGWINCH = 28;

/** clock_gettime(2). */
export const CLOCK_REALTIME = 0;
/** clock_gettime(2). */
export const CLOCK_MONOTONIC = 1;
/** clock_gettime(2). */
export const CLOCK_BOOTTIME = 7;

/** reboot(2). */
export const RB_AUTOBOOT = 0x1234567;
/** reboot(2). */
export const RB_POWER_OFF = 0x4321fedc;
/** reboot(2). */
export const RB_HALT_SYSTEM = 0xcdef0123;
/** reboot(2): Ctrl-Alt-Del sends SIGINT to PID 1 instead of a reboot. */
export const RB_DISABLE_CAD = 0;

/** setrlimit(2). */
export const RLIMIT_CORE = 4;
/** setrlimit(2). */
export const RLIMIT_NOFILE = 7;

/** socket(2). */
export const AF_UNIX = 1;
/** socket(2). */
export const AF_INET = 2;
/** socket(2). */
export const AF_INET6 = 10;
/** socket(2). */
export const AF_NETLINK = 16;
/** socket(2). */
export const AF_VSOCK = 40;
/** socket(2). */
export const SOCK_STREAM = 1;
/** socket(2). */
export const SOCK_DGRAM = 2;
/** socket(2). */
export const SOCK_RAW = 3;
/** netlink(7). */
export const NETLINK_ROUTE = 0;
/** netlink(7). */
export const NETLINK_KOBJECT_UEVENT = 15;
/** shutdown(2). */
export const SHUT_RD = 0;
/** shutdown(2). */
export const SHUT_WR = 1;
/** shutdown(2). */
export const SHUT_RDWR = 2;

/** inotify_add_watch(2). */
export const IN_MODIFY = 0x2;
/** inotify_add_watch(2). */
export const IN_CREATE = 0x100;
/** inotify_add_watch(2). */
export const IN_DELETE = 0x200;
