/**
 * What is looked at before a QEMU is started, and what is said when it did not start.
 *
 * @module
 */

import { checkGuestImage } from "../../../guest/image/check.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachineSpec } from "../hypervisor.ts";

/** Most kernels with initrds of which it is remembered that they fit. */
const FIT_MAX = 16;

/** Looks whether what machines boot from can be a guest of ours: once for each content. */
export class BootFiles {
  readonly #fit = new Set<string>();

  /**
   * Looks at the kernel and the initrd of a machine. What was looked at before and has not changed
   * since costs no more than a look at the directory.
   *
   * @param action What is being done, for messages.
   * @param spec The machine.
   * @throws {SandboxError} `FailedPrecondition` with the path, what is wrong and the setting that
   *   names another.
   */
  async check(action: string, { kernel, initrd, machine }: MachineSpec): Promise<void> {
    // The firmware of a microvm puts its tables behind the initrd into the same page of low memory;
    // where they do not fit, the guest finds no devices and hangs.
    const wholePages = machine === "microvm";
    const content = await contentOf(kernel, initrd);
    const known = content === undefined ? undefined : `${wholePages} ${content}`;
    if (known !== undefined && this.#fit.has(known)) return;
    try {
      await checkGuestImage(kernel, initrd, { wholePages });
    } catch (thrown) {
      const { code, message } = SandboxError.from(thrown);
      throw new SandboxError(code, `${action}: ${message}`, { cause: thrown });
    }
    if (known === undefined) return;
    if (this.#fit.size >= FIT_MAX) this.#fit.clear();
    this.#fit.add(known);
  }
}

/** What changes with the content of files; undefined where one cannot be looked at. */
async function contentOf(...paths: readonly string[]): Promise<string | undefined> {
  try {
    const infos = await Promise.all(paths.map((path) => Deno.stat(path)));
    return infos.map(({ dev, ino, size, mtime }) => [dev, ino, size, mtime?.getTime()].join(" "))
      .join(", ");
  } catch {
    return undefined;
  }
}

/**
 * Why a QEMU did not start, in its own words.
 *
 * @param action What was being done.
 * @param thrown What was noticed.
 * @param end How its process ended; undefined where it had to be killed.
 * @param said The end of its log.
 */
export function startError(
  action: string,
  thrown: unknown,
  end: string | undefined,
  said: string,
): SandboxError {
  const error = SandboxError.from(thrown);
  const why = end === undefined ? error.message : `QEMU did not start: ${end}`;
  const words = said === "" ? "" : `; it said: ${said}`;
  // That it has ended is noticed as a broken connection; it is what it was given that was wrong.
  const code = end === undefined && error.code !== "Unavailable"
    ? error.code
    : "FailedPrecondition";
  return new SandboxError(code, `${action}: ${why}${words}`, { cause: error });
}
