/**
 * The pid name space that containers of the pod can share. It begins with a process that only reaps
 * and is made when the first container asks for it; it stays as long as the pod.
 *
 * @module
 */

import { must } from "./errno.ts";
import { watchChild } from "./processes.ts";
import * as sys from "./sys.js";

/** The pod's pid name space. */
export class SharedPids {
  #init: number | undefined;

  /**
   * The path of the name space.
   *
   * @throws AgentError Where it cannot be made.
   */
  path(): string {
    if (this.#init === undefined) {
      const init = must("cannot make the pod's pid name space", sys.spawnPidNamespace());
      this.#init = init;
      // When it is killed, all in there are; the next container gets a new one.
      watchChild(init, () => {
        if (this.#init === init) this.#init = undefined;
      });
    }
    return `/proc/${this.#init}/ns/pid`;
  }
}
