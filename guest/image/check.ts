/**
 * Looks whether a kernel and an initrd can be a guest of ours, before a VMM is started with them:
 * a VMM would say little, and a guest that cannot come up says nothing at all.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { CPIO_ALIGNMENT_BYTES, type CpioEntry, readCpioAt } from "./cpio.ts";
import { ELF_MACHINES, ElfFile, type ElfNote, parseNotes } from "./elf.ts";

/** The note of a kernel that can be entered without a boot loader. Source: the kernel's pvh.h. */
const PVH_NOTE = { owner: "Xen", type: 18 };

/** Where an initrd must have the agent: what the kernel starts. */
const AGENT_PATHS: readonly string[] = ["init", "./init", "/init"];

/** The first bytes of compressed archives that kernels can unpack. */
const COMPRESSED: readonly { readonly name: string; readonly magic: readonly number[] }[] = [
  { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a] },
  { name: "lz4", magic: [0x02, 0x21, 0x4c, 0x18] },
  { name: "gzip", magic: [0x1f, 0x8b] },
];

/** How much of a kernel's beginning is read, and of each of its parts with notes, in bytes. */
const HEAD_BYTES = 64 << 10;

/** Most parts with notes. */
const NOTE_RANGES_MAX = 16;

/** How much of an initrd is read, in bytes. */
const INITRD_BYTES_MAX = 256 << 20;

/** What is looked at beside the content. */
export interface CheckOptions {
  /** Whether the initrd has to fill whole pages: the firmware of a microvm needs it. Default true. */
  readonly wholePages?: boolean;
}

/**
 * Checks the two files that a guest boots from. Of the kernel only what matters is read.
 *
 * @param kernel The kernel's path.
 * @param initrd The initrd's path.
 * @param options See {@link CheckOptions}.
 * @throws {SandboxError} `FailedPrecondition` where one is missing, cannot be read or will not do;
 *   the message says which, why, and what to do.
 */
export async function checkGuestImage(
  kernel: string,
  initrd: string,
  options: CheckOptions = {},
): Promise<void> {
  await withFile(kernel, "kernel", async (file) => {
    const head = await readAt(file, 0, HEAD_BYTES);
    const elf = kernelElf(head, kernel);
    const notes: ElfNote[] = [];
    for (const { offset, size } of elf.noteRanges().slice(0, NOTE_RANGES_MAX)) {
      notes.push(...parseNotes(await readAt(file, offset, Math.min(size, HEAD_BYTES))));
    }
    checkNotes(notes, kernel);
  });
  await withFile(initrd, "initrd", async (file) => {
    const { size } = await file.stat();
    checkInitrd(await readAt(file, 0, Math.min(size, INITRD_BYTES_MAX)), initrd, options);
  });
}

/**
 * Checks a kernel: an uncompressed ELF file of this machine's architecture with the PVH entry.
 *
 * @param bytes Its content.
 * @param path Its path, for messages.
 * @throws {SandboxError} `FailedPrecondition` where it will not do.
 */
export function checkKernel(bytes: Uint8Array, path: string): void {
  const elf = kernelElf(bytes, path);
  checkNotes(readable(() => elf.notes(), path), path);
}

/** The kernel's headers, where it is of the right kind. */
function kernelElf(bytes: Uint8Array, path: string): ElfFile {
  if (isBzImage(bytes)) {
    throw unfit("kernel", path, "a bzImage: expected the uncompressed ELF file (vmlinux)");
  }
  const elf = readable(() => new ElfFile(bytes, path), path);
  const machine = ELF_MACHINES[Deno.build.arch];
  if (elf.machine === machine) return elf;
  throw unfit("kernel", path, `made for ELF machine ${elf.machine}: expected ${machine}`);
}

/** Whether one of the notes names the entry. */
function checkNotes(notes: readonly ElfNote[], path: string): void {
  if (notes.some(({ owner, type }) => owner === PVH_NOTE.owner && type === PVH_NOTE.type)) return;
  throw unfit("kernel", path, "no PVH entry in it: expected a kernel built with CONFIG_PVH=y");
}

/** Reads something of a kernel. */
function readable<T>(read: () => T, path: string): T {
  try {
    return read();
  } catch (error) {
    throw unfit("kernel", path, SandboxError.from(error).message, error);
  }
}

/**
 * Checks an initrd: filled up to whole pages, and with an agent where it can be looked into.
 *
 * @param bytes Its content.
 * @param path Its path, for messages.
 * @param options See {@link CheckOptions}.
 * @throws {SandboxError} `FailedPrecondition` where it will not do.
 */
export function checkInitrd(
  bytes: Uint8Array,
  path: string,
  { wholePages = true }: CheckOptions = {},
): void {
  if (bytes.length === 0) throw unfit("initrd", path, "empty");
  if (wholePages && bytes.length % CPIO_ALIGNMENT_BYTES !== 0) {
    throw unfit(
      "initrd",
      path,
      `${bytes.length} bytes long: expected a multiple of ${CPIO_ALIGNMENT_BYTES}, or the firmware's ` +
        `tables overwrite it: fill it up with "truncate --size=%${CPIO_ALIGNMENT_BYTES} FILE"`,
    );
  }
  let agent: CpioEntry | undefined;
  // The kernel unpacks one archive after the other; what fills them up are zeros.
  for (let at = 0; at < bytes.length;) {
    // What is in a compressed one shows when the guest boots: its agent answers, or not in time.
    if (isCompressed(bytes, at)) return;
    const { entries, end } = archiveAt(bytes, at, path);
    agent = entries.findLast(({ path }) => AGENT_PATHS.includes(path)) ?? agent;
    for (at = end; bytes[at] === 0;) at++;
  }
  if (agent === undefined) throw unfit("initrd", path, "no /init in it, which is the agent");
  if (agent.kind === "file" && (agent.mode & 0o111) === 0) {
    throw unfit("initrd", path, "its /init is not executable");
  }
}

function isCompressed(bytes: Uint8Array, begin: number): boolean {
  return COMPRESSED.some(({ magic }) => magic.every((byte, at) => bytes[begin + at] === byte));
}

function archiveAt(bytes: Uint8Array, begin: number, path: string): ReturnType<typeof readCpioAt> {
  try {
    return readCpioAt(bytes, begin);
  } catch (error) {
    throw unfit("initrd", path, SandboxError.from(error).message);
  }
}

/** Opens one of the two. */
async function withFile(
  path: string,
  what: "kernel" | "initrd",
  body: (file: Deno.FsFile) => Promise<void>,
): Promise<void> {
  try {
    using file = await Deno.open(path);
    await body(file);
  } catch (error) {
    // What was found out about its content has words of its own.
    if (error instanceof SandboxError) throw error;
    const isMissing = error instanceof Deno.errors.NotFound;
    throw unfit(what, path, isMissing ? "not found" : SandboxError.from(error).message, error);
  }
}

/** Reads a part of a file; less at its end. */
async function readAt(file: Deno.FsFile, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let at = 0; at < length;) {
    const read = await file.read(bytes.subarray(at));
    if (read === null) return bytes.subarray(0, at);
    at += read;
  }
  return bytes;
}

/** Whether it is a kernel as boot loaders take it. Source: the kernel's boot.rst. */
function isBzImage(bytes: Uint8Array): boolean {
  return new TextDecoder("latin1").decode(bytes.subarray(0x202, 0x206)) === "HdrS";
}

function unfit(
  what: "kernel" | "initrd",
  path: string,
  why: string,
  cause?: unknown,
): SandboxError {
  const advice = 'build it with "deno task guest:image", or name another in the configuration ' +
    `(hypervisor.${what}_path, or hypervisor.image_path for both)`;
  return new SandboxError(
    "FailedPrecondition",
    `cannot use the guest's ${what} "${path}": ${why}: ${advice}`,
    { cause },
  );
}
