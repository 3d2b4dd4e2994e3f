/**
 * A running container of an embedded sandboxer, with the streams of its first process.
 *
 * @module
 */

import type { Stats } from "../lifecycle/spec.ts";
import type { Container } from "./api.ts";
import { EmbeddedProcess, type StartedProcess } from "./process.ts";

/** See {@link Container}. */
export class EmbeddedContainer extends EmbeddedProcess implements Container {
  readonly #started: StartedProcess;

  /** Takes over what it is given. */
  constructor(started: StartedProcess) {
    super(started);
    this.#started = started;
  }

  /** Its id. */
  get id(): string {
    return this.#started.containerId;
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    return await this.#started.lifecycle.containerStats(this.id);
  }
}
