/**
 * Takes the kernel proper out of a bzImage, as distributions ship it: an ELF file, which a VMM can
 * load without the real-mode set-up code and the kernel's own decompressor running in the guest.
 * Source of the header: the kernel's Documentation/arch/x86/boot.rst.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { decompress } from "./decompress.ts";

/** Offsets in the header. */
const SETUP_SECTORS = 0x1f1;
const MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;

/** `HdrS`, little endian. */
const HEADER_MAGIC = 0x53726448;

/** The protocol's version that brought the payload's place. */
const VERSION_WITH_PAYLOAD = 0x0208;

/** What 0 set-up sectors mean, for historical reasons. */
const SETUP_SECTORS_DEFAULT = 4;

const SECTOR_BYTES = 512;

/** Behind the compressed kernel stands its size, which is not part of it. */
const SIZE_BYTES = 4;

/**
 * Extracts the kernel.
 *
 * @param image The bzImage.
 * @returns The kernel as an ELF file.
 * @throws {SandboxError} `FailedPrecondition` where it is no bzImage, or cannot be decompressed.
 */
export async function extractKernel(image: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const kernel = await decompress(payload(image), "the kernel");
  const size = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const expected = size.getUint32(payloadEnd(image) - SIZE_BYTES, true);
  if (kernel.length === expected) return kernel;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot decompress the kernel: ${kernel.length} bytes came out, expected ${expected}`,
  );
}

/** The compressed kernel without its size. */
function payload(image: Uint8Array): Uint8Array {
  const start = payloadStart(image);
  const end = payloadEnd(image) - SIZE_BYTES;
  if (start < end && end <= image.length - SIZE_BYTES) return image.subarray(start, end);
  throw new SandboxError(
    "FailedPrecondition",
    `cannot read the kernel: its header says that the compressed part ends at byte ${end}, ` +
      `and the file has ${image.length}: the file is cut off or damaged`,
  );
}

/** Where the compressed kernel begins. */
function payloadStart(image: Uint8Array): number {
  const header = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const known = image.length > PAYLOAD_LENGTH + 4 &&
    header.getUint32(MAGIC, true) === HEADER_MAGIC &&
    header.getUint16(VERSION, true) >= VERSION_WITH_PAYLOAD;
  if (!known) {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot read the kernel: not a bzImage of boot protocol 2.08 or newer",
    );
  }
  const sectors = header.getUint8(SETUP_SECTORS) || SETUP_SECTORS_DEFAULT;
  return (sectors + 1) * SECTOR_BYTES + header.getUint32(PAYLOAD_OFFSET, true);
}

/** Where the compressed kernel ends, its size included. */
function payloadEnd(image: Uint8Array): number {
  const header = new DataView(image.buffer, image.byteOffset, image.byteLength);
  return payloadStart(image) + header.getUint32(PAYLOAD_LENGTH, true);
}
