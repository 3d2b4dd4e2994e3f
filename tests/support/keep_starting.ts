/**
 * Starts a pod that is to be caught while it starts. Right after a restart of its sandboxer containerd
 * refuses calls for a moment, until it has connected again.
 *
 * @module
 */

import type { Pod } from "./cri.ts";

/** How long to wait before a start that was refused is tried again, in milliseconds. */
const AGAIN_MS = 50;

/** A pod that is being started, and started again where that fails. */
export class KeepStarting {
  readonly #pod: Promise<Pod | undefined>;
  #isOver = false;

  /**
   * Begins.
   *
   * @param start Starts the pod.
   */
  constructor(start: () => Promise<Pod>) {
    this.#pod = this.#run(start);
  }

  async #run(start: () => Promise<Pod>): Promise<Pod | undefined> {
    for (;;) {
      const pod = await start().catch(() => undefined);
      if (pod !== undefined || this.#isOver) return pod;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  /** A start that fails from here on is the last. */
  noMore(): void {
    this.#isOver = true;
  }

  /** Removes the pod where it was started in the end. Only after {@link noMore}. */
  async remove(): Promise<void> {
    await (await this.#pod)?.[Symbol.asyncDispose]();
  }
}
