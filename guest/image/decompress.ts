/**
 * Tells by which program something was compressed, from its first bytes, and undoes it.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { runTool } from "./tool.ts";

/** A way of compressing. */
interface Format {
  /** The first bytes. Source: each format's specification. */
  readonly magic: readonly number[];
  /** What decompresses from standard input to standard output. */
  readonly command: readonly [string, ...string[]];
  /** The Debian package of the program. */
  readonly package: string;
}

const FORMATS: readonly Format[] = [
  { magic: [0x28, 0xb5, 0x2f, 0xfd], command: ["zstd", "-dcq"], package: "zstd" },
  {
    magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a],
    command: ["xz", "-dc", "--single-stream"],
    package: "xz-utils",
  },
  // Kernels use the old ("legacy") frame of lz4; both are read by the same program.
  { magic: [0x02, 0x21, 0x4c, 0x18], command: ["lz4", "-dcq"], package: "lz4" },
  { magic: [0x04, 0x22, 0x4d, 0x18], command: ["lz4", "-dcq"], package: "lz4" },
  { magic: [0x1f, 0x8b], command: ["gzip", "-dcq"], package: "gzip" },
];

/**
 * Decompresses.
 *
 * @param bytes What is compressed, with nothing behind it.
 * @param what What it is, for messages.
 * @returns What was compressed.
 * @throws {SandboxError} `FailedPrecondition` for a compression that is not known, where the program
 *   is missing, or where it fails.
 */
export async function decompress(
  bytes: Uint8Array,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => bytes[index] === byte));
  if (format !== undefined) {
    return await runTool(format.command, { input: bytes, package: format.package });
  }
  const found = [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0"));
  throw new SandboxError(
    "FailedPrecondition",
    `cannot decompress ${what}: unknown compression that begins with the bytes ` +
      `${found.join(" ")}: expected zstd, xz, lz4 or gzip`,
  );
}
