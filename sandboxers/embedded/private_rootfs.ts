/**
 * A private root file system for a module that has none: a temporary directory with a copy of the
 * module in it, removed with its container. A link would not do: nothing outside of a root file
 * system can be reached from inside.
 *
 * @module
 */

import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { SandboxError } from "../lifecycle/errors.ts";
import { type EmbeddedKind, MODULE_HEAD_BYTES } from "./kind.ts";

/** A directory with a module in it. Disposing of it removes the directory. */
export interface PrivateRootfs extends AsyncDisposable {
  /** The directory. */
  readonly path: string;
  /** The module's path inside. */
  readonly program: string;
}

/** Files of the host that name lookups read. */
const NAME_FILES = ["/etc/hosts", "/etc/resolv.conf"];
/** The name inside of a module that was given as bytes. */
const UNNAMED_MODULE = "module.wasm";

/** What {@link makePrivateRootfs} works with. */
export interface PrivateRootfsPorts {
  /** Where the directory is made; undefined for the system's temporary directory. */
  readonly parent: string | undefined;
  /** See {@link EmbeddedKind.checkModule}. */
  readonly checkModule: EmbeddedKind["checkModule"];
  /** Hears of a directory that could not be removed. */
  readonly onLeftover: (path: string, error: unknown) => void;
}

/**
 * Makes one.
 *
 * @param module A file of the host by path or `file:` URL, or the module's bytes.
 * @throws {SandboxError} `NotFound`, `PermissionDenied`, `InvalidArgument` about the module.
 */
export async function makePrivateRootfs(
  module: string | URL | Uint8Array<ArrayBuffer>,
  ports: PrivateRootfsPorts,
): Promise<PrivateRootfs> {
  if (module instanceof Uint8Array) {
    check(ports, module.subarray(0, MODULE_HEAD_BYTES), module.length, "the module");
    return await fill(ports, UNNAMED_MODULE, (copy) => Deno.writeFile(copy, module));
  }
  const file = typeof module === "string" ? module : pathOf(module);
  await checkFile(ports, file);
  return await fill(ports, basename(file), (copy) => Deno.copyFile(file, copy));
}

/** Makes the directory and puts the module in it. */
async function fill(
  { parent, onLeftover }: PrivateRootfsPorts,
  name: string,
  write: (path: string) => Promise<void>,
): Promise<PrivateRootfs> {
  const path = await makeDirectory(parent);
  const remove = async (): Promise<void> => {
    try {
      await Deno.remove(path, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) onLeftover(path, error);
    }
  };
  try {
    await write(`${path}/${name}`);
    await copyNameFiles(path);
  } catch (error) {
    await remove();
    throw SandboxError.from(error, `cannot copy module "${name}" to "${path}"`);
  }
  return { path, program: `/${name}`, [Symbol.asyncDispose]: remove };
}

/**
 * Copies what names are looked up with: a guest sees no files of the host. What cannot be read, the
 * guest does without.
 */
async function copyNameFiles(rootfs: string): Promise<void> {
  await Deno.mkdir(`${rootfs}/etc`);
  const copies = NAME_FILES.map((file) => Deno.copyFile(file, `${rootfs}${file}`));
  await Promise.allSettled(copies);
}

async function makeDirectory(parent: string | undefined): Promise<string> {
  try {
    return await Deno.makeTempDir({ ...(parent && { dir: parent }), prefix: "quasaur-" });
  } catch (error) {
    const { message } = SandboxError.from(error, "cannot make a temporary directory");
    throw new SandboxError("FailedPrecondition", message, { cause: error });
  }
}

function pathOf(url: URL): string {
  if (url.protocol === "file:") return fileURLToPath(url);
  throw new SandboxError(
    "InvalidArgument",
    `cannot run module "${url.href}": expected a file: URL, a path or the module's bytes`,
  );
}

/** Checks what a copy would not: that it is a file, and that it begins like a module. */
async function checkFile(ports: PrivateRootfsPorts, path: string): Promise<void> {
  const label = `module ${JSON.stringify(path)}`;
  try {
    // Before it is opened: to open a FIFO would wait for a writer.
    const { isFile, isDirectory, size } = await Deno.stat(path);
    if (!isFile) {
      const found = isDirectory ? "it is a directory" : "it is no regular file";
      throw new SandboxError("InvalidArgument", `cannot run ${label}: ${found}`);
    }
    using file = await Deno.open(path);
    check(ports, await readHead(file), size, label);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new SandboxError("NotFound", `cannot run ${label}: no such file`, { cause: error });
    }
    throw SandboxError.from(error, `cannot run ${label}`);
  }
}

function check(
  { checkModule }: PrivateRootfsPorts,
  head: Uint8Array,
  sizeBytes: number,
  label: string,
): void {
  try {
    checkModule(head, sizeBytes);
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    const reason = message.charAt(0).toLowerCase() + message.slice(1);
    throw new SandboxError(code, `cannot run ${label}: ${reason}`, { cause: error });
  }
}

async function readHead(file: Deno.FsFile): Promise<Uint8Array> {
  const head = new Uint8Array(MODULE_HEAD_BYTES);
  let length = 0;
  while (length < head.length) {
    const got = await file.read(head.subarray(length));
    if (got === null) break;
    length += got;
  }
  return head.subarray(0, length);
}
