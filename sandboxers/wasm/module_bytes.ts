/**
 * What the first bytes of a file tell about whether it can be a WebAssembly module: refusals that
 * every engine shares, in words that say what was found.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Largest module that is loaded, in bytes. */
export const MODULE_BYTES_MAX = 268_435_456;

const MAGIC = [0x00, 0x61, 0x73, 0x6d];
const MODULE_VERSION = [0x01, 0x00, 0x00, 0x00];
const COMPONENT_VERSION = [0x0d, 0x00, 0x01, 0x00];
/** `#!`, the start of a script. */
const SCRIPT_START = [0x23, 0x21];
/** `(`, the start of a module as text. */
const TEXT_START = [0x28];
const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46];

/**
 * Refuses bytes that are no WebAssembly module at first sight.
 *
 * @param bytes The file, or at least its first 8 bytes.
 * @param sizeBytes The size of the whole file.
 * @throws {SandboxError} `InvalidArgument` with the reason.
 */
export function assertModuleHeader(bytes: Uint8Array, sizeBytes: number = bytes.length): void {
  if (sizeBytes === 0) throw refusal("the file is empty");
  if (sizeBytes > MODULE_BYTES_MAX) {
    throw refusal(`the file has ${sizeBytes} bytes: most are ${MODULE_BYTES_MAX}`);
  }
  if (startsWith(bytes, ELF_MAGIC)) {
    throw refusal(
      "it is a native Linux program: use an image that was built for WebAssembly (wasip1)",
    );
  }
  if (!startsWith(bytes, MAGIC)) {
    throw refusal(`it does not start like one${likeness(bytes)}: found bytes ${hex(bytes)}`);
  }
  if (bytes.length < 8) throw refusal("the file is truncated");
  const version = bytes.subarray(4, 8);
  if (startsWith(version, COMPONENT_VERSION)) {
    throw refusal(
      "it is a component (WASI preview 2): build a core module for WASI preview 1 (wasip1)",
    );
  }
  if (!startsWith(version, MODULE_VERSION)) {
    throw refusal(`its version is unknown: found bytes ${hex(version)}`);
  }
}

/**
 * The error for a file that cannot be run as a WebAssembly module.
 *
 * @param reason Why, as the rest of a sentence.
 */
export function refusal(reason: string): SandboxError {
  return new SandboxError("InvalidArgument", `cannot load the WebAssembly module: ${reason}`);
}

/** What a file that is no module looks like, as part of a sentence. */
function likeness(bytes: Uint8Array): string {
  if (startsWith(bytes, SCRIPT_START)) return ", but like a script";
  if (startsWith(bytes, TEXT_START)) {
    return ", but like WebAssembly text (.wat), which has to be translated";
  }
  return "";
}

function startsWith(bytes: Uint8Array, prefix: readonly number[]): boolean {
  return prefix.every((byte, i) => bytes[i] === byte);
}

function hex(bytes: Uint8Array): string {
  return [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
