/**
 * A tar archive that a sandbox has made, as files of this host. The sandbox is not trusted: nothing is
 * written but below the one place that was named, whatever names and links the archive has.
 *
 * @module
 */

import { dirname } from "node:path";
import type { ByteSource, TarMember } from "../../sandboxers/images/tar.ts";
import { TarReader } from "../../sandboxers/images/tar.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Content is written in pieces of this size, in bytes. */
const PIECE_BYTES = 65_536;
/** Most members of an archive. */
const MEMBERS_MAX = 10_000_000;
/** Permission bits that are kept: not those for set-user-id and the like. */
const MODE_BITS = 0o777;

/** How an archive is unpacked. */
export interface UnpackOptions {
  /** What the first part of every member's path has to be. */
  readonly name: string;
  /** Where that part goes: a path of this host. */
  readonly target: string;
  /** Whether symbolic links are made; where not, they are left out, and told. */
  readonly links: boolean;
  /** Hears of what is left out, and why. */
  readonly onLeftOut: (path: string, why: string) => void;
}

/**
 * Unpacks.
 *
 * @param source The archive.
 * @param options See {@link UnpackOptions}.
 * @returns How many members there were.
 * @throws {SandboxError} `PermissionDenied` for a path that leads out of the place; `InvalidArgument`
 *   for no archive; as files of this host say.
 */
export async function unpack(source: ByteSource, options: UnpackOptions): Promise<number> {
  const reader = new TarReader(source);
  const unpacking = new Unpacking(options);
  let count = 0;
  for (let member = await reader.next(); member !== undefined; member = await reader.next()) {
    if (++count > MEMBERS_MAX) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot unpack to "${options.target}": more than ${MEMBERS_MAX} files`,
      );
    }
    await unpacking.take(member, reader);
  }
  await unpacking.finish();
  return count;
}

/** An archive on its way to files. */
class Unpacking {
  readonly #options: UnpackOptions;
  /** Links are made last: nothing of the archive is ever written through one of its own. */
  readonly #links: { readonly path: string; readonly target: string }[] = [];
  /** Directories get their bits last: one that cannot be written to must be filled first. */
  readonly #directories: { readonly path: string; readonly mode: number }[] = [];
  /** Directories that are known to be some. */
  readonly #known = new Set<string>();

  constructor(options: UnpackOptions) {
    this.#options = options;
  }

  async take(member: TarMember, reader: TarReader): Promise<void> {
    const path = this.#pathOf(member.path);
    const { mode } = member.attributes;
    switch (member.kind) {
      case "directory":
        await this.#makeDirectory(path);
        this.#directories.push({ path, mode: mode & MODE_BITS });
        break;
      case "file":
        await this.#makeFile(path, member, reader);
        break;
      case "hardlink": {
        const source = this.#pathOf(member.target);
        await this.#checkParent(path);
        await this.#checkParent(source);
        if (!(await Deno.lstat(source)).isFile) throw this.#leadsOut(member.target);
        await remove(path);
        await Deno.link(source, path);
        break;
      }
      case "symlink":
        if (this.#options.links) this.#links.push({ path, target: member.target });
        else this.#options.onLeftOut(path, `symbolic link to "${member.target}": use --links`);
        break;
      default:
        this.#options.onLeftOut(path, "no file, directory or link");
    }
  }

  /** Makes what is made last. */
  async finish(): Promise<void> {
    for (const { path, target } of this.#links) {
      await this.#checkParent(path);
      await remove(path);
      await Deno.symlink(target, path);
    }
    for (const { path, mode } of this.#directories.reverse()) await Deno.chmod(path, mode);
  }

  /** Where a member goes. */
  #pathOf(member: string): string {
    const [first = "", ...rest] = member.split("/").filter((part) => part !== "" && part !== ".");
    const { name, target } = this.#options;
    if (member.startsWith("/") || first !== name || rest.includes("..") || member.includes("\0")) {
      throw this.#leadsOut(member);
    }
    return [target, ...rest].join("/");
  }

  #leadsOut(member: string): SandboxError {
    return new SandboxError(
      "PermissionDenied",
      `cannot unpack to "${this.#options.target}": the sandbox has sent ${
        JSON.stringify(member)
      }, which leads out of it: nothing more is written`,
    );
  }

  /** Checks that what a path lies in is directories of this host, and no links. */
  async #checkParent(path: string): Promise<void> {
    const { target } = this.#options;
    if (path === target) return;
    const parent = dirname(path);
    if (this.#known.has(parent)) return;
    if (parent !== target) await this.#checkParent(parent);
    const info = await Deno.lstat(parent);
    // The place itself is what the user has named, link or not.
    const isDirectory = parent === target
      ? (await Deno.stat(parent)).isDirectory
      : info.isDirectory;
    if (!isDirectory) throw this.#leadsOut(parent);
    this.#known.add(parent);
  }

  async #makeDirectory(path: string): Promise<void> {
    await this.#checkParent(path);
    try {
      await Deno.mkdir(path, { mode: 0o700 });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      const info = path === this.#options.target ? await Deno.stat(path) : await Deno.lstat(path);
      if (!info.isDirectory) throw this.#leadsOut(path);
    }
    this.#known.add(path);
  }

  async #makeFile(path: string, member: TarMember, reader: TarReader): Promise<void> {
    await this.#checkParent(path);
    await remove(path);
    using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
    for (let rest = member.sizeBytes; rest > 0;) {
      const piece = await reader.read(Math.min(rest, PIECE_BYTES));
      rest -= piece.length;
      for (let at = 0; at < piece.length;) at += await file.write(piece.subarray(at));
    }
    await Deno.chmod(path, member.attributes.mode & MODE_BITS);
    const seconds = member.attributes.mtimeSeconds;
    if (Number.isFinite(seconds)) await file.utime(seconds, seconds);
  }
}

/** Removes a file or link, so that nothing is written through it; a directory stays, and fails. */
async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
