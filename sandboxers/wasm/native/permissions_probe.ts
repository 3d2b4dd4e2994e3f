/**
 * A program for library_test.ts: runs one guest from a directory with no permission but FFI.
 *
 * @module
 */

import type { ContainerSpec, StreamSpec } from "../../lifecycle/spec.ts";
import { sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { WasmDriver } from "../driver.ts";
import { WasmEdgeEngine } from "../wasmedge/engine.ts";

const [program = ""] = Deno.args;
const engine = new WasmEdgeEngine();
const driver = new WasmDriver({ engine, system: engine.system });
const { signal } = new AbortController();
const nowhere: StreamSpec = { kind: "null" };

const sandbox = sandboxSpec("pod", { namespace: "test" });
const container: ContainerSpec = {
  id: "container",
  sandboxId: "pod",
  bundle: "",
  rootfs: { kind: "directory", path: program.replace(/\/[^/]*$/, "") },
  readonlyRootfs: true,
  process: {
    args: [program.replace(/^.*\//, "/")],
    env: [],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  },
  mounts: [],
  stdio: { stdin: nowhere, stdout: { kind: "fd", fd: 1 }, stderr: nowhere, terminal: false },
  resources: {},
  annotations: {},
};

const pod = await driver.start(sandbox, signal);
const created = await pod.createContainer(container, signal);
const process = await created.start(signal);
const exit = await process.exited;
await created.delete();
await pod.stop(0);
await engine.close();
await Deno.stdout.write(new TextEncoder().encode(`${exit.reason} ${exit.status}\n`));
