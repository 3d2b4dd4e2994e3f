/**
 * Whether an image has any files at all. Images that are made as WebAssembly artifacts (a module as
 * a blob, in no file system) come out of containerd as an empty root file system: it fetches the
 * blob and unpacks nothing.
 *
 * @module
 */

import { openLibrary } from "./native/library.ts";
import { OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

const SYMBOLS = {
  getdents64: {
    name: "quasaur_syscall",
    parameters: ["i64", "i64", "buffer", "i64", "i64", "i64", "i64"],
    result: "i64",
  },
} as const;

const GETDENTS64 = Deno.build.arch === "aarch64" ? 61n : 217n;
/** Room for the first entries: what is put into an empty root file system is less. */
const ENTRIES_BYTES = 4_096;
/** Bytes of a `struct linux_dirent64` before the name. */
const NAME_OFFSET = 19;

/** What a container's making puts into the root file system as places for its mounts. */
const MOUNT_PLACES: ReadonlySet<string> = new Set([".", "..", "dev", "etc", "proc", "run", "sys"]);

/**
 * Whether a root file system holds nothing but places for mounts.
 *
 * @param system Opens it.
 * @param rootfs Descriptor of its directory.
 */
export function isEmptyImage(system: System, rootfs: number): boolean {
  const fd = system.openAt(rootfs, ".", OPEN.readOnly | OPEN.directory, 0);
  if (fd < 0) return false;
  try {
    const { getdents64 } = openLibrary(system.libraryPath, SYMBOLS);
    const bytes = new Uint8Array(ENTRIES_BYTES);
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    const got = Number(
      getdents64(GETDENTS64, BigInt(fd), bytes, BigInt(ENTRIES_BYTES), 0n, 0n, 0n),
    );
    return got > 0 && names(bytes.subarray(0, got)).every((name) => MOUNT_PLACES.has(name));
  } finally {
    system.close(fd);
  }
}

function names(entries: Uint8Array<ArrayBuffer>): string[] {
  const view = new DataView(entries.buffer, entries.byteOffset, entries.length);
  const all: string[] = [];
  for (let at = 0; at < entries.length;) {
    const length = view.getUint16(at + 16, true);
    const name = entries.subarray(at + NAME_OFFSET, at + length);
    all.push(new TextDecoder().decode(name.subarray(0, name.indexOf(0))));
    at += length;
  }
  return all;
}
