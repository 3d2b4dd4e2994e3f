/**
 * The numbers and layouts of WASI preview 1 (`wasi_snapshot_preview1`), as far as they are used.
 * Source: the witx files of WebAssembly/WASI, `legacy/preview1`.
 *
 * @module
 */

/** The module name of all imports. */
export const WASI_MODULE = "wasi_snapshot_preview1";

/** Error numbers of WASI. */
export const WASI_ERRNO = {
  SUCCESS: 0,
  AGAIN: 6,
  BADF: 8,
  FAULT: 21,
  INVAL: 28,
  IO: 29,
  ISDIR: 31,
  MFILE: 33,
  NAMETOOLONG: 37,
  NOENT: 44,
  NOTDIR: 54,
  NOTSOCK: 57,
  NOTSUP: 58,
  PERM: 63,
  ROFS: 69,
  NOTCAPABLE: 76,
} as const;

/** WASI's error number for each of Linux (asm-generic/errno.h), by index. */
const FROM_LINUX: Readonly<Record<number, number>> = {
  1: 63, // EPERM
  2: 44, // ENOENT
  3: 71, // ESRCH
  4: 27, // EINTR
  5: 29, // EIO
  6: 60, // ENXIO
  7: 1, // E2BIG
  8: 45, // ENOEXEC
  9: 8, // EBADF
  10: 12, // ECHILD
  11: 6, // EAGAIN
  12: 48, // ENOMEM
  13: 2, // EACCES
  14: 21, // EFAULT
  16: 10, // EBUSY
  17: 20, // EEXIST
  18: 75, // EXDEV
  19: 43, // ENODEV
  20: 54, // ENOTDIR
  21: 31, // EISDIR
  22: 28, // EINVAL
  23: 41, // ENFILE
  24: 33, // EMFILE
  25: 59, // ENOTTY
  26: 74, // ETXTBSY
  27: 22, // EFBIG
  28: 51, // ENOSPC
  29: 70, // ESPIPE
  30: 69, // EROFS
  31: 34, // EMLINK
  32: 64, // EPIPE
  33: 18, // EDOM
  34: 68, // ERANGE
  35: 16, // EDEADLK
  36: 37, // ENAMETOOLONG
  37: 46, // ENOLCK
  38: 52, // ENOSYS
  39: 55, // ENOTEMPTY
  40: 32, // ELOOP
  75: 61, // EOVERFLOW
  84: 25, // EILSEQ
  88: 57, // ENOTSOCK
  95: 58, // EOPNOTSUPP
  104: 15, // ECONNRESET
  107: 53, // ENOTCONN
  110: 73, // ETIMEDOUT
  116: 72, // ESTALE
  122: 19, // EDQUOT
};

/** What a WASI function answers instead of success. */
export class WasiError extends Error {
  /**
   * Makes one.
   *
   * @param errno One of WASI's numbers.
   */
  constructor(readonly errno: number) {
    super(`WASI error ${errno}`);
  }

  /**
   * Makes one of a failed system call.
   *
   * @param errno A positive number of Linux.
   */
  static ofLinux(errno: number): WasiError {
    return new WasiError(FROM_LINUX[errno] ?? WASI_ERRNO.IO);
  }
}

/** Rights: what may be done with a descriptor (flags of 64 bits). */
export const RIGHT = {
  FD_DATASYNC: 1n << 0n,
  FD_READ: 1n << 1n,
  FD_SEEK: 1n << 2n,
  FD_FDSTAT_SET_FLAGS: 1n << 3n,
  FD_SYNC: 1n << 4n,
  FD_TELL: 1n << 5n,
  FD_WRITE: 1n << 6n,
  FD_ADVISE: 1n << 7n,
  FD_ALLOCATE: 1n << 8n,
  PATH_CREATE_DIRECTORY: 1n << 9n,
  PATH_CREATE_FILE: 1n << 10n,
  PATH_LINK_SOURCE: 1n << 11n,
  PATH_LINK_TARGET: 1n << 12n,
  PATH_OPEN: 1n << 13n,
  FD_READDIR: 1n << 14n,
  PATH_READLINK: 1n << 15n,
  PATH_RENAME_SOURCE: 1n << 16n,
  PATH_RENAME_TARGET: 1n << 17n,
  PATH_FILESTAT_GET: 1n << 18n,
  PATH_FILESTAT_SET_SIZE: 1n << 19n,
  PATH_FILESTAT_SET_TIMES: 1n << 20n,
  FD_FILESTAT_GET: 1n << 21n,
  FD_FILESTAT_SET_SIZE: 1n << 22n,
  FD_FILESTAT_SET_TIMES: 1n << 23n,
  PATH_SYMLINK: 1n << 24n,
  PATH_REMOVE_DIRECTORY: 1n << 25n,
  PATH_UNLINK_FILE: 1n << 26n,
  POLL_FD_READWRITE: 1n << 27n,
} as const;

/** Every right. */
export const RIGHTS_ALL: bigint = (1n << 30n) - 1n;

/** Rights that change a file or a directory: what a read-only directory does not give. */
export const RIGHTS_CHANGING: bigint = RIGHT.FD_WRITE | RIGHT.FD_ALLOCATE |
  RIGHT.PATH_CREATE_DIRECTORY | RIGHT.PATH_CREATE_FILE | RIGHT.PATH_LINK_SOURCE |
  RIGHT.PATH_LINK_TARGET | RIGHT.PATH_RENAME_SOURCE | RIGHT.PATH_RENAME_TARGET |
  RIGHT.PATH_FILESTAT_SET_SIZE | RIGHT.PATH_FILESTAT_SET_TIMES | RIGHT.FD_FILESTAT_SET_SIZE |
  RIGHT.FD_FILESTAT_SET_TIMES | RIGHT.PATH_SYMLINK | RIGHT.PATH_REMOVE_DIRECTORY |
  RIGHT.PATH_UNLINK_FILE;

/** Rights that only mean something for directories. */
export const RIGHTS_OF_DIRECTORIES: bigint = RIGHT.PATH_CREATE_DIRECTORY | RIGHT.PATH_CREATE_FILE |
  RIGHT.PATH_LINK_SOURCE | RIGHT.PATH_LINK_TARGET | RIGHT.PATH_OPEN | RIGHT.FD_READDIR |
  RIGHT.PATH_READLINK | RIGHT.PATH_RENAME_SOURCE | RIGHT.PATH_RENAME_TARGET |
  RIGHT.PATH_FILESTAT_GET | RIGHT.PATH_FILESTAT_SET_SIZE | RIGHT.PATH_FILESTAT_SET_TIMES |
  RIGHT.PATH_SYMLINK | RIGHT.PATH_REMOVE_DIRECTORY | RIGHT.PATH_UNLINK_FILE;

/** Rights that mean nothing for directories. */
export const RIGHTS_OF_FILES: bigint = RIGHT.FD_READ | RIGHT.FD_WRITE | RIGHT.FD_SEEK |
  RIGHT.FD_TELL | RIGHT.FD_ALLOCATE | RIGHT.FD_DATASYNC | RIGHT.FD_FILESTAT_SET_SIZE;

/** Kinds of files. */
export const FILETYPE = {
  UNKNOWN: 0,
  BLOCK_DEVICE: 1,
  CHARACTER_DEVICE: 2,
  DIRECTORY: 3,
  REGULAR_FILE: 4,
  SOCKET_STREAM: 6,
  SYMBOLIC_LINK: 7,
} as const;

/** The kind of a file from the type bits of its mode (stat(2)). */
export function filetypeOfMode(mode: number): number {
  switch (mode & 0o170000) {
    case 0o040000:
      return FILETYPE.DIRECTORY;
    case 0o100000:
      return FILETYPE.REGULAR_FILE;
    case 0o120000:
      return FILETYPE.SYMBOLIC_LINK;
    case 0o020000:
      return FILETYPE.CHARACTER_DEVICE;
    case 0o060000:
      return FILETYPE.BLOCK_DEVICE;
    case 0o140000:
      return FILETYPE.SOCKET_STREAM;
    default:
      return FILETYPE.UNKNOWN;
  }
}

/** The kind of a directory's entry: `d_type` of getdents64(2) is the same number shifted. */
export function filetypeOfEntry(type: number): number {
  return filetypeOfMode(type << 12);
}

/** Flags of an open descriptor. */
export const FDFLAG = { APPEND: 1, DSYNC: 2, NONBLOCK: 4, RSYNC: 8, SYNC: 16 } as const;

/** Flags of `path_open`. */
export const OFLAG = { CREAT: 1, DIRECTORY: 2, EXCL: 4, TRUNC: 8 } as const;

/** Flag of paths: follow a symbolic link at the end. */
export const LOOKUP_SYMLINK_FOLLOW = 1;

/** Flags that say which times are set, and how. */
export const FSTFLAG = { ATIM: 1, ATIM_NOW: 2, MTIM: 4, MTIM_NOW: 8 } as const;
