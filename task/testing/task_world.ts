/**
 * A whole Task API for tests: a real lifecycle with a fake driver, its service on a real socket, a
 * client as containerd's, and bundles on disk.
 *
 * @module
 */

import { join } from "node:path";
import { Task } from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { noMounts } from "../../sandboxers/lifecycle/mounter.ts";
import { Sandboxer } from "../../sandboxers/lifecycle/sandboxer.ts";
import { FileStore } from "../../sandboxers/lifecycle/store.ts";
import { sandboxSpec } from "../../sandboxers/lifecycle/testing/specs.ts";
import type { Capabilities } from "../../sandboxers/lifecycle/driver.ts";
import { NAMESPACE_KEY, taskService } from "../service.ts";
import { TtrpcClient } from "../ttrpc/client.ts";
import { TtrpcServer } from "../ttrpc/server.ts";
import { type BundleOptions, writeBundle } from "./bundle_directory.ts";
import { FakeDriver } from "./fake_driver.ts";

/** Everything a test of the Task API needs. */
export interface TaskWorld extends AsyncDisposable {
  /** Removed at the end. */
  readonly dir: string;
  /** Where the server listens. */
  readonly socket: string;
  /** The kind of sandbox behind it all. */
  readonly driver: FakeDriver;
  /** The lifecycle. */
  readonly sandboxer: Sandboxer;
  /** The server. */
  readonly server: TtrpcServer;
  /** Calls as containerd does in namespace `k8s.io`. */
  readonly client: TtrpcClient;
  /** Warnings that were logged. */
  readonly warnings: string[];
  /** Another connection. */
  connect(namespace?: string): Promise<TtrpcClient>;
  /** Writes a bundle as containerd does; returns its path. */
  bundle(id: string, options?: BundleOptions): Promise<string>;
}

/** Starts a world with one ready sandbox, `sb1`. */
export async function startTaskWorld(
  capabilities: Partial<Capabilities> = {},
): Promise<TaskWorld> {
  await using cleanUp = new AsyncDisposableStack();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-task-" });
  cleanUp.defer(() => Deno.remove(dir, { recursive: true }));
  const warnings: string[] = [];
  const log = { warn: (message: string) => void warnings.push(message) };
  const driver = new FakeDriver(capabilities);
  const sandboxer = new Sandboxer({
    driver,
    store: new FileStore(join(dir, "state")),
    mounter: noMounts,
    log,
  });
  cleanUp.defer(() => sandboxer.close());
  await readySandbox(sandboxer);
  const socket = join(dir, "task.sock");
  const server = new TtrpcServer({ log }).add(Task, taskService(sandboxer, 42));
  await server.listen(socket);
  cleanUp.use(server);
  const clients: TtrpcClient[] = [];
  cleanUp.defer(() => {
    for (const client of clients) client.close();
  });
  const connect = async (namespace = "k8s.io"): Promise<TtrpcClient> => {
    const client = await TtrpcClient.connect(socket, { metadata: { [NAMESPACE_KEY]: namespace } });
    clients.push(client);
    return client;
  };
  const client = await connect();
  const owned = cleanUp.move();
  return {
    dir,
    socket,
    driver,
    sandboxer,
    server,
    client,
    warnings,
    connect,
    bundle: (id, options) => writeBundle(join(dir, "bundles", id), options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function readySandbox(sandboxer: Sandboxer): Promise<void> {
  await sandboxer.createSandbox(sandboxSpec("sb1", { name: "pod" }));
  await sandboxer.startSandbox("sb1");
}
