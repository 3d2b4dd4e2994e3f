/**
 * Unix sockets by system call: connecting, accepting, and handing open descriptors over. Deno's own
 * sockets cannot pass descriptors, and its permissions name each socket's path beforehand; those of
 * pods come and go.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { ERRNO, systemError } from "../native/errno.ts";
import { type Address, openLibrary } from "../native/library.ts";
import { OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

const name = "quasaur_syscall";
const result = "i64";
const I = "i64";

const SOCKET_SYMBOLS = {
  call: { name, parameters: [I, I, I, I, I, I, I], result },
  callAsync: { name, parameters: [I, I, I, I, I, I, I], result, nonblocking: true },
  withBuffer: { name, parameters: [I, I, "buffer", I, I, I, I], result },
  setOption: { name, parameters: [I, I, I, I, "buffer", I, I], result },
  malloc: { parameters: ["usize"], result: "u64" },
  free: { parameters: ["u64"], result: "void" },
  copyIn: { name: "memcpy", parameters: ["u64", "buffer", "usize"], result: "u64" },
  copyOut: { name: "memcpy", parameters: ["buffer", "u64", "usize"], result: "u64" },
} as const;

/** Numbers that only this file needs; sources: asm/unistd.h of the two machines. */
const NUMBER = Deno.build.arch === "aarch64"
  ? { socket: 198n, connect: 203n, accept4: 242n, setsockopt: 208n, sendmsg: 211n, recvmsg: 212n }
  : { socket: 41n, connect: 42n, accept4: 288n, setsockopt: 54n, sendmsg: 46n, recvmsg: 47n };

const AF_UNIX = 1;
const SOCK_STREAM = 1n;
const SOCK_NONBLOCK = 0o4000n;
const SOCK_CLOEXEC = 0o2000000n;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_RCVTIMEO = 20n;
const MSG_NOSIGNAL = 0x4000n;
const MSG_CTRUNC = 0x8;
const MSG_CMSG_CLOEXEC = 0x40000000n;
/** Bytes of struct sockaddr_un, and of the path in it with its final NUL. */
const ADDRESS_BYTES = 110;
const PATH_BYTES_MAX = 107;
/** Bytes of struct msghdr, struct iovec and struct cmsghdr on 64-bit machines. */
const MSGHDR_BYTES = 56;
const IOVEC_BYTES = 16;
const CMSGHDR_BYTES = 16;

/** Most descriptors in one message; the kernel's SCM_MAX_FD is 253. */
export const DESCRIPTORS_MAX = 250;

/** What came in one message. */
export interface Received {
  /** The bytes; none when the other side has closed. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Descriptors that came with them, close-on-exec; the receiver's to close. */
  readonly descriptors: readonly number[];
}

/** Makes the system calls. */
export class UnixSockets {
  readonly #c: Deno.DynamicLibrary<typeof SOCKET_SYMBOLS>["symbols"];
  readonly #system: System;

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   * @param system Closes descriptors.
   */
  constructor(libraryPath: string, system: System) {
    this.#c = openLibrary(libraryPath, SOCKET_SYMBOLS);
    this.#system = system;
  }

  /**
   * Connects to a socket, without waiting: where its queue is full, that is an error.
   *
   * @param directory The socket's directory; its path may be longer than a socket's may.
   * @param file The socket's name in it.
   * @returns A non-blocking descriptor; the caller closes it.
   * @throws {SandboxError} `Unavailable` when nobody listens there.
   */
  connect(directory: string, file: string): number {
    const place = this.#system.openAt(-100, directory, OPEN.path | OPEN.directory, 0);
    if (place < 0) throw unavailable(directory, file, -place);
    try {
      const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
      const fd = Number(this.#c.call(NUMBER.socket, BigInt(AF_UNIX), type, 0n, 0n, 0n, 0n));
      if (fd < 0) throw systemError("cannot make a socket", -fd);
      const address = socketAddress(`/proc/self/fd/${place}/${file}`);
      // SAFETY: a struct sockaddr_un of the length given, only read during the call.
      const connected = Number(
        this.#c.withBuffer(NUMBER.connect, BigInt(fd), address, BigInt(address.length), 0n, 0n, 0n),
      );
      if (connected === 0) return fd;
      this.#system.close(fd);
      throw unavailable(directory, file, -connected);
    } finally {
      this.#system.close(place);
    }
  }

  /**
   * Waits, on another thread, for the next connection.
   *
   * @param listener A listening socket, blocking.
   * @param receiveTimeoutMs How long {@link UnixSockets.receive} on the new one waits at most.
   * @returns A blocking descriptor.
   */
  async accept(listener: number, receiveTimeoutMs: number): Promise<number> {
    for (;;) {
      const fd = Number(
        await this.#c.callAsync(NUMBER.accept4, BigInt(listener), 0n, 0n, SOCK_CLOEXEC, 0n, 0n),
      );
      if (fd === -ERRNO.EINTR) continue;
      if (fd < 0) throw systemError("cannot accept a connection", -fd);
      this.#setReceiveTimeout(fd, receiveTimeoutMs);
      return fd;
    }
  }

  #setReceiveTimeout(fd: number, timeoutMs: number): void {
    const time = new BigInt64Array([
      BigInt(Math.floor(timeoutMs / 1000)),
      BigInt((timeoutMs % 1000) * 1000),
    ]);
    const bytes = new Uint8Array(time.buffer);
    // SAFETY: a struct timeval, only read during the call.
    this.#c.setOption(
      NUMBER.setsockopt,
      BigInt(fd),
      BigInt(SOL_SOCKET),
      SO_RCVTIMEO,
      bytes,
      BigInt(bytes.length),
      0n,
    );
  }

  /**
   * Sends a short message, with descriptors.
   *
   * @param fd A connected socket with nothing queued in it.
   * @param bytes At least one, at most some hundred: they fit the socket's buffer as a whole.
   * @param descriptors At most {@link DESCRIPTORS_MAX}; they stay the caller's.
   */
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[]): void {
    if (descriptors.length > DESCRIPTORS_MAX) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot pass ${descriptors.length} descriptors at once: most are ${DESCRIPTORS_MAX}`,
      );
    }
    using message = this.#message(bytes, controlBytes(descriptors));
    const sent = Number(
      this.#c.call(NUMBER.sendmsg, BigInt(fd), message.address, MSG_NOSIGNAL, 0n, 0n, 0n),
    );
    if (sent < 0) throw systemError("cannot send a message", -sent);
    if (sent !== bytes.length) {
      throw new SandboxError("Unavailable", "cannot send a message: the socket took part of it");
    }
  }

  /**
   * Waits, on another thread, for bytes and the descriptors that come with them.
   *
   * @param fd From {@link UnixSockets.accept}.
   * @param lengthMax Most bytes to take.
   * @throws {SandboxError} `DeadlineExceeded` when nothing came in time.
   */
  async receive(fd: number, lengthMax: number): Promise<Received> {
    const control = new Uint8Array(CMSGHDR_BYTES + 4 * (DESCRIPTORS_MAX + 2));
    using message = this.#message(new Uint8Array(lengthMax), control);
    const got = Number(
      await this.#c.callAsync(
        NUMBER.recvmsg,
        BigInt(fd),
        message.address,
        MSG_CMSG_CLOEXEC,
        0n,
        0n,
        0n,
      ),
    );
    if (got === -ERRNO.EAGAIN) {
      throw new SandboxError("DeadlineExceeded", "cannot receive a message: nothing came in time");
    }
    if (got < 0) throw systemError("cannot receive a message", -got);
    const { bytes, control: filled, flags } = message.read();
    const descriptors = parseControl(filled);
    if ((flags & MSG_CTRUNC) !== 0) {
      for (const descriptor of descriptors) this.#system.close(descriptor);
      throw new SandboxError("InvalidArgument", "cannot receive a message: too many descriptors");
    }
    return { bytes: bytes.subarray(0, got), descriptors };
  }

  /** A struct msghdr on the C heap, with what it points to behind it. */
  #message(bytes: Uint8Array, control: Uint8Array): Message {
    const dataAt = MSGHDR_BYTES + IOVEC_BYTES;
    const controlAt = Math.ceil((dataAt + bytes.length) / 8) * 8;
    const length = controlAt + control.length;
    const address = this.#c.malloc(BigInt(length));
    if (address === 0n) {
      throw new SandboxError("ResourceExhausted", `cannot allocate ${length} bytes of memory`);
    }
    const block = new Uint8Array(length);
    const view = new DataView(block.buffer);
    view.setBigUint64(16, address + BigInt(MSGHDR_BYTES), true);
    view.setBigUint64(24, 1n, true);
    if (control.length > 0) view.setBigUint64(32, address + BigInt(controlAt), true);
    view.setBigUint64(40, BigInt(control.length), true);
    view.setBigUint64(MSGHDR_BYTES, address + BigInt(dataAt), true);
    view.setBigUint64(MSGHDR_BYTES + 8, BigInt(bytes.length), true);
    block.set(bytes, dataAt);
    block.set(control, controlAt);
    // SAFETY: `address` was allocated with block.length bytes, and stays so until it is disposed of.
    this.#c.copyIn(address, block, BigInt(length));
    return {
      address,
      read: () => {
        // SAFETY: as above, in the other direction.
        this.#c.copyOut(block, address, BigInt(length));
        const controlLength = Number(view.getBigUint64(40, true));
        return {
          bytes: block.slice(dataAt, dataAt + bytes.length),
          control: block.slice(controlAt, controlAt + controlLength),
          flags: view.getInt32(48, true),
        };
      },
      [Symbol.dispose]: () => this.#c.free(address),
    };
  }
}

interface Message extends Disposable {
  readonly address: Address;
  read(): {
    readonly bytes: Uint8Array<ArrayBuffer>;
    readonly control: Uint8Array<ArrayBuffer>;
    readonly flags: number;
  };
}

/** struct sockaddr_un. */
function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const address = new Uint8Array(ADDRESS_BYTES);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > PATH_BYTES_MAX) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use the socket "${path}": its path has more than ${PATH_BYTES_MAX} bytes`,
    );
  }
  address.set(bytes, 2);
  return address;
}

/** One SCM_RIGHTS message; see cmsg(3). */
function controlBytes(descriptors: readonly number[]): Uint8Array {
  if (descriptors.length === 0) return new Uint8Array(0);
  const used = CMSGHDR_BYTES + 4 * descriptors.length;
  const control = new Uint8Array(Math.ceil(used / 8) * 8);
  const view = new DataView(control.buffer);
  view.setBigUint64(0, BigInt(used), true);
  view.setInt32(8, SOL_SOCKET, true);
  view.setInt32(12, SCM_RIGHTS, true);
  descriptors.forEach((fd, index) => view.setInt32(CMSGHDR_BYTES + 4 * index, fd, true));
  return control;
}

function parseControl(control: Uint8Array): number[] {
  if (control.length < CMSGHDR_BYTES) return [];
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const used = Math.min(Number(view.getBigUint64(0, true)), control.length);
  if (view.getInt32(8, true) !== SOL_SOCKET || view.getInt32(12, true) !== SCM_RIGHTS) return [];
  const descriptors: number[] = [];
  for (let at = CMSGHDR_BYTES; at + 4 <= used; at += 4) descriptors.push(view.getInt32(at, true));
  return descriptors;
}

function unavailable(directory: string, file: string, errno: number): SandboxError {
  const { message } = systemError(`cannot connect to "${directory}/${file}"`, errno);
  return new SandboxError("Unavailable", message);
}
