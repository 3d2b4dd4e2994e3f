/**
 * A Mounter that only counts, and that minds what a real one would: nothing is mounted twice, and
 * what is in use cannot be taken away.
 *
 * @module
 */

import type { Mounter } from "../mounter.ts";
import type { RootfsMount } from "../spec.ts";
import { type Gate, openGate } from "./gate.ts";

/** What is mounted; it outlives sandboxer processes. */
export class FakeMounts {
  /** The directories at which something is mounted. */
  readonly targets = new Set<string>();
  /** What broke the rules, in words. */
  readonly violations: string[] = [];
}

/** Mounts into a {@link FakeMounts}. */
export class FakeMounter implements Mounter {
  /** What is mounted. */
  readonly mounts: FakeMounts;
  readonly #gate: Gate;
  readonly #busy: (target: string) => boolean;

  /**
   * A mounter over what is mounted already.
   *
   * @param mounts What is mounted.
   * @param options `gate`: passed before each effect; `busy`: whether a mount is in use.
   */
  constructor(
    mounts: FakeMounts = new FakeMounts(),
    options: { readonly gate?: Gate; readonly busy?: (target: string) => boolean } = {},
  ) {
    this.mounts = mounts;
    this.#gate = options.gate ?? openGate;
    this.#busy = options.busy ?? (() => false);
  }

  /** See {@link Mounter.mount}. */
  async mount(_mounts: readonly RootfsMount[], target: string): Promise<void> {
    await this.#gate.pass("mount");
    if (this.mounts.targets.has(target)) this.mounts.violations.push(`${target} mounted twice`);
    this.mounts.targets.add(target);
  }

  /** See {@link Mounter.unmount}; what is busy stays. */
  async unmount(target: string): Promise<void> {
    await this.#gate.pass("unmount");
    if (this.mounts.targets.has(target) && this.#busy(target)) {
      throw new Error(`${target}: Device or resource busy (os error 16)`);
    }
    this.mounts.targets.delete(target);
  }
}
