/**
 * Volumes whose files the host sends and keeps up to date: configuration, secrets, projected tokens.
 * They live in the guest's memory and are bound into containers. A file that is sent takes the old
 * one's place in one step, and so does a link, so that the switch of kubelet's `..data` link shows
 * containers either all of the old files or all of the new ones. A file that a container has mounted
 * by itself is written in place, as a new file would not be seen there.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { VOLUME_READ_BYTES_MAX, type VolumeEntry } from "../protocol/messages.ts";
import { EEXIST, ENOENT, must, mustGet, systemError } from "./errno.ts";
import {
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
} from "./linux.ts";
import * as sys from "./sys.js";

/** The calls that files are made with. */
export type FileCalls = Pick<
  typeof sys,
  | "chmod"
  | "close"
  | "decodeBase64"
  | "encodeBase64"
  | "fchmod"
  | "fchown"
  | "lchown"
  | "lstat"
  | "mkdir"
  | "mkdirAll"
  | "open"
  | "pread"
  | "removeAll"
  | "rename"
  | "symlink"
  | "unlink"
  | "write"
>;

type FileEntry = Extract<VolumeEntry, { kind: "file" }>;

/** A file that has come in part. */
interface Incoming {
  readonly fd: number;
  readonly path: string;
  received: number;
}

/** Files that may be on their way at the same time. */
const INCOMING_MAX = 64;
const COPY_BYTES = 65_536;

/** All volumes of the pod. */
export class Volumes {
  readonly #root: string;
  readonly #files: FileCalls;
  readonly #incoming = new Map<string, Incoming>();
  readonly #pinned = new Set<string>();
  #staged = 0;

  /**
   * Makes the place of the volumes.
   *
   * @param root The directory they are in; it is made when the first one comes.
   * @param files The calls that files are made with.
   */
  constructor(root: string, files: FileCalls = sys) {
    this.#root = root;
    this.#files = files;
  }

  /**
   * Brings a volume up to date.
   *
   * @param volume Its name; one that is new is made.
   * @param entries Changes, in order.
   * @throws AgentError `InvalidArgument` for a path that leaves the volume or a part that does not
   *   fit; what the kernel refused. Entries before that have been applied.
   */
  sync(volume: string, entries: readonly VolumeEntry[]): void {
    const top = this.#top(volume);
    must(`cannot make the volume "${volume}"`, this.#files.mkdirAll(top, 0o755));
    for (const entry of entries) {
      const path = inside(top, entry.path, volume);
      if (path === top && entry.kind !== "directory") throw outside(entry.path, volume);
      this.#apply(top, path, entry);
    }
  }

  /**
   * Where a file or directory of a volume is, for a mount. A file is written in place from now on.
   *
   * @param volume The volume.
   * @param path Relative; empty for the volume itself.
   * @throws AgentError `NotFound` where the host has not sent it.
   */
  source(volume: string, path: string): string {
    const top = this.#top(volume);
    const source = inside(top, path, volume);
    const stat = this.#files.lstat(source);
    if (typeof stat === "number") {
      throw new AgentError(
        "NotFound",
        `cannot mount "${path}" of the volume "${volume}": it was not sent`,
      );
    }
    if ((stat.mode & S_IFMT) === S_IFREG) this.#pinned.add(source);
    return source;
  }

  /**
   * Reads a piece of a file, which containers may have written to.
   *
   * @param volume The volume.
   * @param path Relative; a regular file.
   * @param offset Where the piece begins, in bytes.
   * @param length Its length in bytes.
   * @returns The bytes as base64, fewer only at the file's end, and the file's size.
   * @throws AgentError `NotFound` where there is no regular file.
   */
  read(
    volume: string,
    path: string,
    offset: number,
    length: number,
  ): { data: string; sizeBytes: number } {
    const action = `cannot read "${path}" of the volume "${volume}"`;
    const place = inside(this.#top(volume), path, volume);
    const stat = this.#files.lstat(place);
    if (typeof stat === "number" || (stat.mode & S_IFMT) !== S_IFREG) {
      throw new AgentError("NotFound", `${action}: there is no such file`);
    }
    const fd = must(action, this.#files.open(place, O_RDONLY | O_NONBLOCK));
    try {
      const buffer = new ArrayBuffer(Math.min(length, VOLUME_READ_BYTES_MAX));
      let have = 0;
      while (have < buffer.byteLength) {
        const wanted = buffer.byteLength - have;
        const count = must(action, this.#files.pread(fd, buffer, have, wanted, offset + have));
        if (count === 0) break;
        have += count;
      }
      return { data: this.#files.encodeBase64(buffer, 0, have), sizeBytes: stat.size };
    } finally {
      this.#files.close(fd);
    }
  }

  #top(volume: string): string {
    if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/.test(volume)) {
      throw new AgentError(
        "InvalidArgument",
        `cannot use "${volume}" as the name of a volume: letters, digits, ".", "_", "-" are expected`,
      );
    }
    return `${this.#root}/${volume}`;
  }

  #apply(top: string, path: string, entry: VolumeEntry): void {
    this.#makeParents(top, path);
    switch (entry.kind) {
      case "file":
        return this.#file(path, entry);
      case "directory":
        return this.#directory(path, entry);
      case "link":
        return this.#link(path, entry.target);
      case "gone":
        this.#forget(path);
        this.#remove(path);
    }
  }

  /** Makes the directories above a path. None of them is a link, which might lead elsewhere. */
  #makeParents(top: string, path: string): void {
    for (let end = path.indexOf("/", top.length + 1); end > 0; end = path.indexOf("/", end + 1)) {
      const parent = path.slice(0, end);
      const errno = -this.#files.mkdir(parent, 0o755);
      if (errno <= 0) continue;
      const stat = this.#files.lstat(parent);
      if (errno === EEXIST && typeof stat !== "number" && (stat.mode & S_IFMT) === S_IFDIR) {
        continue;
      }
      throw new AgentError(
        "InvalidArgument",
        `cannot write "${path}": "${parent}" is not a directory`,
      );
    }
  }

  #file(path: string, entry: FileEntry): void {
    const incoming = entry.offset === 0 ? this.#begin(path) : this.#incoming.get(path);
    if (incoming === undefined || incoming.received !== entry.offset) {
      this.#forget(path);
      throw new AgentError(
        "InvalidArgument",
        `cannot write "${path}" at ${entry.offset}: ${incoming?.received ?? 0} bytes have come`,
      );
    }
    try {
      const data = mustGet(
        `cannot read what was sent for "${path}"`,
        this.#files.decodeBase64(entry.data),
      );
      this.#writeAll(incoming.fd, data, data.byteLength, path);
      incoming.received += data.byteLength;
      if (entry.last) this.#complete(path, incoming, entry);
    } catch (thrown) {
      this.#forget(path);
      throw thrown;
    }
  }

  #begin(path: string): Incoming {
    this.#forget(path);
    if (this.#incoming.size >= INCOMING_MAX) {
      throw new AgentError(
        "ResourceExhausted",
        `cannot write "${path}": ${INCOMING_MAX} files are on their way already`,
      );
    }
    // Beside the volumes, so that no container sees it, and in the same file system.
    const staging = `${this.#root}/.incoming`;
    must("cannot make a place for incoming files", this.#files.mkdirAll(staging, 0o700));
    const temporary = `${staging}/${this.#staged++}`;
    const flags = O_WRONLY | O_CREAT | O_EXCL;
    const fd = must(`cannot write "${path}"`, this.#files.open(temporary, flags, 0o600));
    const incoming = { fd, path: temporary, received: 0 };
    this.#incoming.set(path, incoming);
    return incoming;
  }

  #complete(path: string, incoming: Incoming, entry: FileEntry): void {
    const action = `cannot write "${path}"`;
    const old = this.#files.lstat(path);
    if (this.#pinned.has(path) && typeof old !== "number" && (old.mode & S_IFMT) === S_IFREG) {
      this.#overwrite(path, incoming, entry);
    } else {
      must(action, this.#files.fchown(incoming.fd, entry.uid, entry.gid));
      must(action, this.#files.fchmod(incoming.fd, entry.mode & 0o7777));
      this.#replace(incoming.path, path, action);
    }
    this.#forget(path);
  }

  /** Puts new content into the file that is there. */
  #overwrite(path: string, incoming: Incoming, entry: FileEntry): void {
    const action = `cannot write "${path}"`;
    const source = must(action, this.#files.open(incoming.path, O_RDONLY));
    try {
      const target = must(action, this.#files.open(path, O_WRONLY | O_TRUNC));
      try {
        const buffer = new ArrayBuffer(COPY_BYTES);
        for (let offset = 0; offset < incoming.received;) {
          const read = must(action, this.#files.pread(source, buffer, 0, COPY_BYTES, offset));
          if (read === 0) break;
          this.#writeAll(target, buffer, read, path);
          offset += read;
        }
        must(action, this.#files.fchown(target, entry.uid, entry.gid));
        must(action, this.#files.fchmod(target, entry.mode & 0o7777));
      } finally {
        this.#files.close(target);
      }
    } finally {
      this.#files.close(source);
    }
  }

  #directory(path: string, entry: Extract<VolumeEntry, { kind: "directory" }>): void {
    const action = `cannot make the directory "${path}"`;
    const old = this.#files.lstat(path);
    if (typeof old !== "number" && (old.mode & S_IFMT) !== S_IFDIR) this.#remove(path);
    must(action, this.#files.mkdirAll(path, 0o755));
    must(action, this.#files.lchown(path, entry.uid, entry.gid));
    must(action, this.#files.chmod(path, entry.mode & 0o7777));
  }

  #link(path: string, target: string): void {
    const action = `cannot make the link "${path}"`;
    const staging = `${this.#root}/.incoming`;
    must(action, this.#files.mkdirAll(staging, 0o700));
    const temporary = `${staging}/${this.#staged++}`;
    must(action, this.#files.symlink(target, temporary));
    try {
      this.#replace(temporary, path, action);
    } catch (thrown) {
      this.#files.unlink(temporary);
      throw thrown;
    }
  }

  /** Moves a file or link to its place; a directory that is there goes first. */
  #replace(from: string, to: string, action: string): void {
    const old = this.#files.lstat(to);
    if (typeof old !== "number" && (old.mode & S_IFMT) === S_IFDIR) this.#remove(to);
    must(action, this.#files.rename(from, to));
  }

  #remove(path: string): void {
    const errno = -this.#files.removeAll(path);
    if (errno > 0 && errno !== ENOENT) throw systemError(`cannot remove "${path}"`, errno);
  }

  /** Drops what has come of a file so far. */
  #forget(path: string): void {
    const incoming = this.#incoming.get(path);
    if (incoming === undefined) return;
    this.#incoming.delete(path);
    this.#files.close(incoming.fd);
    this.#files.unlink(incoming.path);
  }

  #writeAll(fd: number, buffer: ArrayBuffer, length: number, path: string): void {
    for (let offset = 0; offset < length;) {
      offset += must(
        `cannot write "${path}"`,
        this.#files.write(fd, buffer, offset, length - offset),
      );
    }
  }
}

/** The absolute path of a path in a volume. Names such as `..data` are fine, `..` is not. */
function inside(top: string, path: string, volume: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..") || path.includes("\0")) throw outside(path, volume);
  return [top, ...parts].join("/");
}

function outside(path: string, volume: string): AgentError {
  return new AgentError(
    "InvalidArgument",
    `cannot use the path "${path}" in the volume "${volume}": a path below it is expected`,
  );
}
