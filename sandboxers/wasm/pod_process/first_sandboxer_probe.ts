/**
 * A program for a test: starts a pod with containers, prints its record, and ends without a word to
 * anybody, as a sandboxer does that is killed.
 *
 * @module
 */

import type { ContainerSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import { noLog } from "../../log.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { ProcessPods } from "./process_pods.ts";

const { directory, spec, specs }: {
  readonly directory: string;
  readonly spec: SandboxSpec;
  readonly specs: readonly ContainerSpec[];
} = JSON.parse(Deno.args[0] ?? "");
const pods = new ProcessPods({
  directory: `${directory}/processes`,
  podDirectory: `${directory}/pods`,
  taskSocket: `${directory}/task.sock`,
  system: new System(DEFAULT_LIBRARY_PATH),
  log: noLog,
});
const { signal } = new AbortController();
const pod = await pods.start(spec, signal);
for (const container of specs) {
  const handle = await pod.createContainer(container, signal);
  await handle.start(signal);
}
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(pod.record)));
Deno.kill(Deno.pid, "SIGKILL");
