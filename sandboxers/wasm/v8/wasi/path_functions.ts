/**
 * WASI functions on paths (`path_*`). The kernel resolves each path beneath the directory that it
 * starts from and refuses what leads out of it, `..` and symbolic links included (openat2(2),
 * RESOLVE_BENEATH).
 *
 * @module
 */

import {
  FDFLAG,
  FILETYPE,
  filetypeOfMode,
  LOOKUP_SYMLINK_FOLLOW,
  OFLAG,
  RIGHT,
  RIGHTS_OF_DIRECTORIES,
  RIGHTS_OF_FILES,
  WASI_ERRNO,
  WasiError,
} from "./abi.ts";
import { type Bytes, type Calls, O } from "./calls.ts";
import type { WasiContext, WasiFunctions } from "./context.ts";
import { encodeTimes, FILESTAT_BYTES, writeFilestat } from "./descriptor_functions.ts";
import type { Descriptor } from "./descriptors.ts";

const SLASH = 0x2f;
const DOT = 0x2e;
const EMPTY: Bytes = new Uint8Array(1);

/** Rights for which a file is opened for reading, and for writing. */
const READING = RIGHT.FD_READ | RIGHT.FD_READDIR;
const WRITING = RIGHT.FD_WRITE | RIGHT.FD_ALLOCATE | RIGHT.FD_FILESTAT_SET_SIZE;

/** What `path_open` was asked for. */
interface OpenRequest {
  readonly lookup: number;
  readonly oflags: number;
  readonly rights: bigint;
  readonly inheriting: bigint;
  readonly fdflags: number;
}

/** Makes the functions. */
export function pathFunctions(context: WasiContext): WasiFunctions {
  const { memory, descriptors, calls } = context;
  return {
    path_create_directory: (fd: number, path: number, length: number) => {
      const { host } = descriptors.changeable(fd, RIGHT.PATH_CREATE_DIRECTORY);
      atParent(calls, host, memory.path(path, length), (parent, name) => {
        calls.makeDirectory(parent, name);
      });
    },
    path_filestat_get: (
      fd: number,
      lookup: number,
      path: number,
      length: number,
      result: number,
    ) => {
      const { host } = descriptors.directory(fd, RIGHT.PATH_FILESTAT_GET);
      const stat = withPath(calls, host, memory.path(path, length), lookup, (found) => {
        return calls.stat(found);
      });
      writeFilestat(memory.view(result, FILESTAT_BYTES), stat);
    },
    path_filestat_set_times: (
      fd: number,
      lookup: number,
      path: number,
      length: number,
      atim: bigint,
      mtim: bigint,
      flags: number,
    ) => {
      const { host } = descriptors.changeable(fd, RIGHT.PATH_FILESTAT_SET_TIMES);
      const times = encodeTimes(atim, mtim, flags);
      withPath(calls, host, memory.path(path, length), lookup, (found) => {
        calls.setTimes(found, times);
      });
    },
    path_link: (
      fd: number,
      lookup: number,
      from: number,
      fromLength: number,
      toFd: number,
      to: number,
      toLength: number,
    ) => {
      // To follow a link here would need a second look that could find something else.
      if ((lookup & LOOKUP_SYMLINK_FOLLOW) !== 0) throw new WasiError(WASI_ERRNO.INVAL);
      const source = descriptors.changeable(fd, RIGHT.PATH_LINK_SOURCE).host;
      const target = descriptors.changeable(toFd, RIGHT.PATH_LINK_TARGET).host;
      const toPath = memory.path(to, toLength);
      atParent(calls, source, memory.path(from, fromLength), (parent, name) => {
        atParent(calls, target, toPath, (toParent, toName) => {
          calls.link(parent, name, toParent, toName);
        });
      });
    },
    path_open: (
      fd: number,
      lookup: number,
      path: number,
      length: number,
      oflags: number,
      rights: bigint,
      inheriting: bigint,
      fdflags: number,
      result: number,
    ) => {
      const request = { lookup, oflags, rights, inheriting, fdflags };
      memory.view(result, 4);
      descriptors.assertRoom();
      const opened = openPath(context, fd, memory.path(path, length), request);
      memory.setU32(result, descriptors.add(opened));
    },
    path_readlink: (
      fd: number,
      path: number,
      length: number,
      buffer: number,
      bufferLength: number,
      result: number,
    ) => {
      const { host } = descriptors.directory(fd, RIGHT.PATH_READLINK);
      const bytes = memory.bytes(buffer, bufferLength);
      const got = withPath(calls, host, memory.path(path, length), 0, (found) => {
        if (filetypeOfMode(calls.stat(found).mode) !== FILETYPE.SYMBOLIC_LINK) {
          throw new WasiError(WASI_ERRNO.INVAL);
        }
        return bytes.length === 0 ? 0 : calls.readLink(found, EMPTY, bytes);
      });
      memory.setU32(result, got);
    },
    path_remove_directory: (fd: number, path: number, length: number) => {
      const { host } = descriptors.changeable(fd, RIGHT.PATH_REMOVE_DIRECTORY);
      atParent(calls, host, memory.path(path, length), (parent, name) => {
        calls.unlink(parent, name, true);
      });
    },
    path_rename: (
      fd: number,
      from: number,
      fromLength: number,
      toFd: number,
      to: number,
      toLength: number,
    ) => {
      const source = descriptors.changeable(fd, RIGHT.PATH_RENAME_SOURCE).host;
      const target = descriptors.changeable(toFd, RIGHT.PATH_RENAME_TARGET).host;
      const toPath = memory.path(to, toLength);
      atParent(calls, source, memory.path(from, fromLength), (parent, name) => {
        atParent(calls, target, toPath, (toParent, toName) => {
          calls.rename(parent, name, toParent, toName);
        });
      });
    },
    path_symlink: (
      target: number,
      targetLength: number,
      fd: number,
      path: number,
      length: number,
    ) => {
      const { host } = descriptors.changeable(fd, RIGHT.PATH_SYMLINK);
      const to = memory.path(target, targetLength);
      atParent(calls, host, memory.path(path, length), (parent, name) => {
        calls.symlink(to, parent, name);
      });
    },
    path_unlink_file: (fd: number, path: number, length: number) => {
      const { host } = descriptors.changeable(fd, RIGHT.PATH_UNLINK_FILE);
      atParent(calls, host, memory.path(path, length), (parent, name) => {
        calls.unlink(parent, name, false);
      });
    },
  };
}

/** Opens a path as a descriptor for the guest. */
function openPath(
  { descriptors, calls }: WasiContext,
  fd: number,
  path: Bytes,
  request: OpenRequest,
): Descriptor {
  const { oflags, rights, inheriting } = request;
  const directory = descriptors.directory(fd, RIGHT.PATH_OPEN);
  const changes = (oflags & (OFLAG.CREAT | OFLAG.TRUNC)) !== 0 || (rights & WRITING) !== 0n;
  const isDirectory = (oflags & OFLAG.DIRECTORY) !== 0;
  if (directory.readonly && changes && !isDirectory) throw new WasiError(WASI_ERRNO.ROFS);
  const host = calls.openBeneath(directory.host, path, openFlags(request));
  try {
    const filetype = filetypeOfMode(calls.stat(host).mode);
    const kind = filetype === FILETYPE.DIRECTORY ? ~RIGHTS_OF_FILES : ~RIGHTS_OF_DIRECTORIES;
    return {
      host,
      filetype,
      rights: rights & directory.inheriting & kind,
      inheriting: inheriting & directory.inheriting,
      readonly: directory.readonly,
    };
  } catch (error) {
    calls.close(host);
    throw error;
  }
}

/** The flags of open(2) that a guest has asked for. */
function openFlags({ lookup, oflags, rights, fdflags }: OpenRequest): number {
  const reads = (rights & READING) !== 0n;
  const writes = (rights & WRITING) !== 0n;
  let flags: number = writes ? (reads ? O.RDWR : O.WRONLY) : O.RDONLY;
  if ((oflags & OFLAG.DIRECTORY) !== 0) flags = O.RDONLY | O.DIRECTORY;
  if ((oflags & OFLAG.CREAT) !== 0) flags |= O.CREAT;
  if ((oflags & OFLAG.EXCL) !== 0) flags |= O.EXCL;
  if ((oflags & OFLAG.TRUNC) !== 0) flags |= O.TRUNC;
  if ((lookup & LOOKUP_SYMLINK_FOLLOW) === 0) flags |= O.NOFOLLOW;
  if ((fdflags & FDFLAG.APPEND) !== 0) flags |= O.APPEND;
  if ((fdflags & FDFLAG.NONBLOCK) !== 0) flags |= O.NONBLOCK;
  if ((fdflags & FDFLAG.DSYNC) !== 0) flags |= O.DSYNC;
  if ((fdflags & (FDFLAG.SYNC | FDFLAG.RSYNC)) !== 0) flags |= O.SYNC;
  return flags;
}

/** Opens what a path names, only to look at it. */
function withPath<T>(
  calls: Calls,
  directory: number,
  path: Bytes,
  lookup: number,
  use: (fd: number) => T,
): T {
  const follow = (lookup & LOOKUP_SYMLINK_FOLLOW) === 0 ? O.NOFOLLOW : 0;
  const fd = calls.openBeneath(directory, path, O.PATH | follow);
  try {
    return use(fd);
  } finally {
    calls.close(fd);
  }
}

/**
 * Finds the directory that holds the last component of a path: the calls that make, remove and
 * rename take a directory and a name, and follow no link in the name.
 */
function atParent(
  calls: Calls,
  directory: number,
  path: Bytes,
  use: (parent: number, name: Bytes) => void,
): void {
  let end = path.length - 1;
  while (end > 0 && path[end - 1] === SLASH) end--;
  const slash = path.lastIndexOf(SLASH, end - 1);
  const name = path.slice(slash + 1, path.length);
  if (end === 0) throw new WasiError(WASI_ERRNO.NOTCAPABLE);
  const last = path.subarray(slash + 1, end);
  if (last.every((byte) => byte === DOT) && last.length <= 2) throw new WasiError(WASI_ERRNO.INVAL);
  if (slash < 0) return use(directory, name);
  if (slash === 0) throw new WasiError(WASI_ERRNO.NOTCAPABLE);
  const parentPath = new Uint8Array(slash + 1);
  parentPath.set(path.subarray(0, slash));
  const parent = calls.openBeneath(directory, parentPath, O.PATH | O.DIRECTORY);
  try {
    use(parent, name);
  } finally {
    calls.close(parent);
  }
}
