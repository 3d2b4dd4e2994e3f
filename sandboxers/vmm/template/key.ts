/**
 * What a template is the template of. Everything that is baked into a saved machine is in its key:
 * the machine, the VMM, the content of kernel and initrd, and this start of the host.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachineSpec } from "../hypervisor.ts";

/** What templates depend on beside the machine; none of it changes while the sandboxer runs. */
export interface TemplateHost {
  /** The VMM and its version. */
  readonly hypervisor: string;
  /** This start of the host; a saved machine whose pages were lost on the way to disk is not used. */
  readonly bootId: string;
  /** The frequency of the host's time stamp counter in kHz; guests that TCG executes see it. */
  readonly tscKhz: number;
}

/** The version of what our own code makes of all this. */
const FORMAT = 2;

/** How much of a file is read at a time, in bytes. */
const PIECE_BYTES = 1 << 20;

/** Most files whose digest is kept. */
const FILES_MAX = 16;

/**
 * A machine's description as text: the same for the same machine.
 *
 * @param spec The machine.
 */
export function specText(spec: MachineSpec): string {
  return JSON.stringify(Object.entries(spec).sort(([a], [b]) => a < b ? -1 : 1));
}

/** Makes keys. It reads kernels and initrds once, and again when they have changed. */
export class TemplateKeys {
  readonly #digests = new Map<string, { readonly identity: string; readonly digest: string }>();

  /**
   * Reads nothing yet.
   *
   * @param host What templates depend on here.
   */
  constructor(readonly host: TemplateHost) {}

  /**
   * The key of a machine's template.
   *
   * @param spec The machine.
   * @returns 64 hexadecimal digits.
   * @throws {SandboxError} `FailedPrecondition` where kernel or initrd cannot be read.
   */
  async keyOf(spec: MachineSpec): Promise<string> {
    const files = [await this.#digestOf(spec.kernel), await this.#digestOf(spec.initrd)];
    const text = JSON.stringify([FORMAT, this.host, specText(spec), files]);
    return createHash("sha256").update(text).digest("hex");
  }

  /** The SHA-256 of a file. */
  async #digestOf(path: string): Promise<string> {
    try {
      using file = await Deno.open(path);
      const { dev, ino, size, mtime } = await file.stat();
      const identity = [dev, ino, size, mtime?.getTime()].join(" ");
      const known = this.#digests.get(path);
      if (known?.identity === identity) return known.digest;
      const digest = await digestOfOpen(file);
      if (this.#digests.size >= FILES_MAX) this.#digests.clear();
      this.#digests.set(path, { identity, digest });
      return digest;
    } catch (error) {
      const { message } = SandboxError.from(error);
      throw new SandboxError("FailedPrecondition", `cannot read "${path}": ${message}`, {
        cause: error,
      });
    }
  }
}

/** The SHA-256 of what is left to read of a file, piece by piece. */
async function digestOfOpen(file: Deno.FsFile): Promise<string> {
  const hash = createHash("sha256");
  const piece = new Uint8Array(PIECE_BYTES);
  for (;;) {
    const read = await file.read(piece);
    if (read === null) return hash.digest("hex");
    hash.update(piece.subarray(0, read));
  }
}
