/**
 * WASI functions on open descriptors (`fd_*`) and the four on sockets, of which a guest has none.
 *
 * @module
 */

import {
  FDFLAG,
  FILETYPE,
  filetypeOfEntry,
  filetypeOfMode,
  FSTFLAG,
  RIGHT,
  WASI_ERRNO,
  WasiError,
} from "./abi.ts";
import { type Bytes, type FileStat, O } from "./calls.ts";
import type { WasiContext, WasiFunctions } from "./context.ts";
import type { Descriptor } from "./descriptors.ts";

/** Several buffers are read and written in one piece of at most this size. */
const GATHER_BYTES_MAX = 65_536;
/** How many bytes of entries are asked for at a time. */
const ENTRIES_BYTES = 32_768;
/** Bytes of a WASI directory entry without its name. */
const DIRENT_BYTES = 24;
/** Bytes of a Linux directory entry without its name. */
const LINUX_DIRENT_BYTES = 19;
const SEEK_CUR = 1;
const POLLIN = 1;
const POLLOUT = 4;
/** utimensat(2): the present time, and no change. */
const UTIME_NOW = 0x3fffffffn;
const UTIME_OMIT = 0x3ffffffen;

/** The WASI flags of a descriptor. */
function flagsOf(context: WasiContext, { host, nonblocking }: Descriptor): number {
  const flags = context.calls.flags(host);
  let result = 0;
  if ((flags & O.APPEND) !== 0) result |= FDFLAG.APPEND;
  if ((flags & O.DSYNC) !== 0) result |= FDFLAG.DSYNC;
  if ((flags & O.SYNC) === O.SYNC) result |= FDFLAG.SYNC | FDFLAG.RSYNC;
  if (nonblocking ?? (flags & O.NONBLOCK) !== 0) result |= FDFLAG.NONBLOCK;
  return result;
}

/** Writes a `filestat`. */
export function writeFilestat(view: DataView, stat: FileStat): void {
  view.setBigUint64(0, stat.device, true);
  view.setBigUint64(8, stat.inode, true);
  view.setBigUint64(16, BigInt(filetypeOfMode(stat.mode)), true);
  view.setBigUint64(24, stat.links, true);
  view.setBigUint64(32, stat.sizeBytes, true);
  view.setBigInt64(40, stat.accessedNs, true);
  view.setBigInt64(48, stat.modifiedNs, true);
  view.setBigInt64(56, stat.changedNs, true);
}

/** Bytes of a `filestat`. */
export const FILESTAT_BYTES = 64;

/** Two `struct timespec` for utimensat(2). */
export function encodeTimes(atimNs: bigint, mtimNs: bigint, flags: number): Bytes {
  const both = FSTFLAG.ATIM | FSTFLAG.ATIM_NOW;
  const bothM = FSTFLAG.MTIM | FSTFLAG.MTIM_NOW;
  if ((flags & both) === both || (flags & bothM) === bothM) throw new WasiError(WASI_ERRNO.INVAL);
  const times = new BigInt64Array(4);
  const set = (at: number, ns: bigint, given: number, now: number): void => {
    const whole = (flags & given) !== 0;
    times[at] = whole ? BigInt.asUintN(64, ns) / 1_000_000_000n : 0n;
    const rest = (flags & now) !== 0 ? UTIME_NOW : UTIME_OMIT;
    times[at + 1] = whole ? BigInt.asUintN(64, ns) % 1_000_000_000n : rest;
  };
  set(0, atimNs, FSTFLAG.ATIM, FSTFLAG.ATIM_NOW);
  set(2, mtimNs, FSTFLAG.MTIM, FSTFLAG.MTIM_NOW);
  return new Uint8Array(times.buffer);
}

/** Makes the functions. */
export function descriptorFunctions(context: WasiContext): WasiFunctions {
  const { memory, descriptors, calls } = context;
  return {
    fd_advise: (fd: number, offset: bigint, length: bigint, advice: number) => {
      if (advice >>> 0 > 5) throw new WasiError(WASI_ERRNO.INVAL);
      calls.advise(descriptors.get(fd, RIGHT.FD_ADVISE).host, offset, length, advice);
    },
    fd_allocate: (fd: number, offset: bigint, length: bigint) =>
      calls.allocate(descriptors.get(fd, RIGHT.FD_ALLOCATE).host, offset, length),
    fd_close: (fd: number) => descriptors.close(fd),
    fd_datasync: (fd: number) => calls.sync(descriptors.get(fd, RIGHT.FD_DATASYNC).host, true),
    fd_sync: (fd: number) => calls.sync(descriptors.get(fd, RIGHT.FD_SYNC).host, false),
    fd_fdstat_get: (fd: number, result: number) => {
      const descriptor = descriptors.get(fd);
      const view = memory.view(result, 24);
      view.setUint8(0, descriptor.filetype);
      view.setUint16(2, flagsOf(context, descriptor), true);
      view.setBigUint64(8, descriptor.rights, true);
      view.setBigUint64(16, descriptor.inheriting, true);
    },
    fd_fdstat_set_flags: (fd: number, flags: number) => setFlags(context, fd, flags),
    fd_fdstat_set_rights: (fd: number, rights: bigint, inheriting: bigint) => {
      const descriptor = descriptors.get(fd);
      const more = (rights & ~descriptor.rights) | (inheriting & ~descriptor.inheriting);
      if (more !== 0n) throw new WasiError(WASI_ERRNO.NOTCAPABLE);
      descriptor.rights = rights;
      descriptor.inheriting = inheriting;
    },
    fd_filestat_get: (fd: number, result: number) => {
      const stat = calls.stat(descriptors.get(fd, RIGHT.FD_FILESTAT_GET).host);
      writeFilestat(memory.view(result, FILESTAT_BYTES), stat);
    },
    fd_filestat_set_size: (fd: number, size: bigint) =>
      calls.truncate(descriptors.get(fd, RIGHT.FD_FILESTAT_SET_SIZE).host, size),
    fd_filestat_set_times: (fd: number, atim: bigint, mtim: bigint, flags: number) => {
      const { host, readonly } = descriptors.get(fd);
      if (readonly) throw new WasiError(WASI_ERRNO.ROFS);
      descriptors.get(fd, RIGHT.FD_FILESTAT_SET_TIMES);
      calls.setTimes(host, encodeTimes(atim, mtim, flags));
    },
    fd_read: (fd: number, vectors: number, count: number, result: number) => {
      const descriptor = descriptors.get(fd, RIGHT.FD_READ);
      assertReady(context, descriptor, POLLIN);
      const got = scatter(
        memory.vectors(vectors, count),
        (bytes) => calls.read(descriptor.host, bytes),
      );
      memory.setU32(result, got);
    },
    fd_pread: (fd: number, vectors: number, count: number, offset: bigint, result: number) => {
      const { host } = descriptors.get(fd, RIGHT.FD_READ | RIGHT.FD_SEEK);
      const got = scatter(
        memory.vectors(vectors, count),
        (bytes) => calls.readAt(host, bytes, offset),
      );
      memory.setU32(result, got);
    },
    fd_write: (fd: number, vectors: number, count: number, result: number) => {
      const descriptor = descriptors.get(fd, RIGHT.FD_WRITE);
      assertReady(context, descriptor, POLLOUT);
      const put = gather(
        memory.vectors(vectors, count),
        (bytes) => calls.write(descriptor.host, bytes),
      );
      memory.setU32(result, put);
    },
    fd_pwrite: (fd: number, vectors: number, count: number, offset: bigint, result: number) => {
      const { host } = descriptors.get(fd, RIGHT.FD_WRITE | RIGHT.FD_SEEK);
      const put = gather(
        memory.vectors(vectors, count),
        (bytes) => calls.writeAt(host, bytes, offset),
      );
      memory.setU32(result, put);
    },
    fd_prestat_get: (fd: number, result: number) => {
      const { preopen } = descriptors.get(fd);
      if (preopen === undefined) throw new WasiError(WASI_ERRNO.BADF);
      const view = memory.view(result, 8);
      view.setUint32(0, 0, true);
      view.setUint32(4, new TextEncoder().encode(preopen).length, true);
    },
    fd_prestat_dir_name: (fd: number, address: number, length: number) => {
      const { preopen } = descriptors.get(fd);
      if (preopen === undefined) throw new WasiError(WASI_ERRNO.BADF);
      const name = new TextEncoder().encode(preopen);
      if (name.length > length >>> 0) throw new WasiError(WASI_ERRNO.NAMETOOLONG);
      memory.bytes(address, name.length).set(name);
    },
    fd_readdir: (fd: number, address: number, length: number, cookie: bigint, result: number) => {
      const { host } = descriptors.get(fd, RIGHT.FD_READDIR);
      memory.setU32(result, readDirectory(context, host, memory.bytes(address, length), cookie));
    },
    fd_renumber: (from: number, to: number) => descriptors.renumber(from, to),
    fd_seek: (fd: number, offset: bigint, whence: number, result: number) => {
      const { host } = descriptors.get(fd, RIGHT.FD_SEEK);
      if (whence >>> 0 > 2) throw new WasiError(WASI_ERRNO.INVAL);
      memory.setU64(result, calls.seek(host, offset, whence));
    },
    fd_tell: (fd: number, result: number) => {
      const { host } = descriptors.get(fd, RIGHT.FD_TELL);
      memory.setU64(result, calls.seek(host, 0n, SEEK_CUR));
    },
    sock_accept: (fd: number, _flags: number, _result: number) => refuseSocket(context, fd),
    sock_recv: (fd: number) => refuseSocket(context, fd),
    sock_send: (fd: number) => refuseSocket(context, fd),
    sock_shutdown: (fd: number, _how: number) => refuseSocket(context, fd),
  };
}

/** Whatever the descriptor is: a guest cannot make a socket here and is given none. */
function refuseSocket({ descriptors }: WasiContext, fd: number): never {
  const { filetype } = descriptors.get(fd);
  const isSocket = filetype === FILETYPE.SOCKET_STREAM;
  throw new WasiError(isSocket ? WASI_ERRNO.NOTSUP : WASI_ERRNO.NOTSOCK);
}

function setFlags({ descriptors, calls }: WasiContext, fd: number, flags: number): void {
  const descriptor = descriptors.get(fd, RIGHT.FD_FDSTAT_SET_FLAGS);
  const { host, owned } = descriptor;
  if ((flags & ~(FDFLAG.APPEND | FDFLAG.NONBLOCK)) !== 0) throw new WasiError(WASI_ERRNO.INVAL);
  if (owned !== true) {
    descriptor.nonblocking = (flags & FDFLAG.NONBLOCK) !== 0;
    return;
  }
  const kept = calls.flags(host) & ~(O.APPEND | O.NONBLOCK);
  const append = (flags & FDFLAG.APPEND) === 0 ? 0 : O.APPEND;
  calls.setFlags(host, kept | append | ((flags & FDFLAG.NONBLOCK) === 0 ? 0 : O.NONBLOCK));
}

/** Keeps a stream that the guest has made non-blocking from waiting. */
function assertReady({ calls }: WasiContext, descriptor: Descriptor, event: number): void {
  if (descriptor.nonblocking !== true) return;
  const poll = new Uint8Array(8);
  const view = new DataView(poll.buffer);
  view.setInt32(0, descriptor.host, true);
  view.setInt16(4, event, true);
  if (calls.poll(poll, 0n) === 0) throw new WasiError(WASI_ERRNO.AGAIN);
}

/** Reads into several buffers by one call, as readv(2) does. */
function scatter(buffers: readonly Bytes[], read: (bytes: Bytes) => number): number {
  const [first] = buffers;
  if (first === undefined) return read(new Uint8Array(0));
  if (buffers.length === 1) return read(first);
  const all = new Uint8Array(gatheredBytes(buffers));
  const got = read(all);
  let at = 0;
  for (const buffer of buffers) {
    const part = all.subarray(at, Math.min(got, at + buffer.length));
    buffer.set(part);
    at += part.length;
  }
  return got;
}

/** Writes several buffers by one call, as writev(2) does. */
function gather(buffers: readonly Bytes[], write: (bytes: Bytes) => number): number {
  const [first] = buffers;
  if (first === undefined) return write(new Uint8Array(0));
  if (buffers.length === 1) return write(first);
  const all = new Uint8Array(gatheredBytes(buffers));
  let at = 0;
  for (const buffer of buffers) {
    const part = buffer.subarray(0, all.length - at);
    all.set(part, at);
    at += part.length;
  }
  return write(all);
}

function gatheredBytes(buffers: readonly Bytes[]): number {
  const sum = buffers.reduce((bytes, buffer) => bytes + buffer.length, 0);
  return Math.min(sum, GATHER_BYTES_MAX);
}

/**
 * Fills a buffer with entries from a place on. The last one is cut where there is no room; so the
 * guest knows that there are more.
 */
function readDirectory(
  { calls }: WasiContext,
  host: number,
  buffer: Bytes,
  cookie: bigint,
): number {
  calls.seek(host, cookie, 0);
  const entries = new Uint8Array(ENTRIES_BYTES);
  let used = 0;
  while (used < buffer.length) {
    const got = calls.entries(host, entries);
    if (got === 0) break;
    for (let at = 0; at < got && used < buffer.length;) {
      const { bytes, next } = convertEntry(entries.subarray(at, got));
      const part = bytes.subarray(0, buffer.length - used);
      buffer.set(part, used);
      used += part.length;
      at += next;
    }
  }
  return used;
}

/** A `struct linux_dirent64` as a WASI `dirent`; its place in the directory is the cookie. */
function convertEntry(entry: Bytes): { readonly bytes: Bytes; readonly next: number } {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.length);
  const next = view.getUint16(16, true);
  const named = entry.subarray(LINUX_DIRENT_BYTES, next);
  const name = named.subarray(0, named.indexOf(0));
  const bytes = new Uint8Array(DIRENT_BYTES + name.length);
  const out = new DataView(bytes.buffer);
  out.setBigUint64(0, view.getBigUint64(8, true), true);
  out.setBigUint64(8, view.getBigUint64(0, true), true);
  out.setUint32(16, name.length, true);
  out.setUint8(20, filetypeOfEntry(view.getUint8(18)));
  bytes.set(name, DIRENT_BYTES);
  return { bytes, next };
}
