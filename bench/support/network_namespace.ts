/**
 * A network namespace for a pod that no CNI plugin has made.
 *
 * @module
 */

import { run } from "../../tests/support/command.ts";

/** A namespace; disposing of it removes it. */
export interface NetworkNamespace extends AsyncDisposable {
  /** Its path. */
  readonly path: string;
}

/** Makes a namespace, with nothing in it but a loopback interface. */
export async function networkNamespace(): Promise<NetworkNamespace> {
  const name = `qs-bench-${crypto.randomUUID().slice(0, 8)}`;
  await run(["ip", "netns", "add", name]);
  return {
    path: `/run/netns/${name}`,
    async [Symbol.asyncDispose]() {
      await run(["ip", "netns", "delete", name]);
    },
  };
}
