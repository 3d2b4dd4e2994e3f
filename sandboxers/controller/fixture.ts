/**
 * For tests of the Sandbox API: a real gRPC server on a socket of its own, on a real lifecycle, on a
 * driver that keeps its sandboxes in memory and does what the test tells it to.
 *
 * @module
 */

import { create, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { NamespaceMode, PodSandboxConfigSchema } from "../../proto/gen/runtime/v1/pod_pb.ts";
import { GrpcClient } from "../../proto/grpc.ts";
import type { Capabilities, Driver, SandboxHandle } from "../lifecycle/driver.ts";
import { abortError } from "../lifecycle/errors.ts";
import { noMounts } from "../lifecycle/mounter.ts";
import { Sandboxer } from "../lifecycle/sandboxer.ts";
import type { Exit, ResourceSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { MemoryStore, type Store } from "../lifecycle/store.ts";
import { createLog, type Log } from "../log.ts";
import { ControllerServer } from "./server.ts";

/** The namespace that calls are made in. */
export const NAMESPACE: Readonly<Record<string, string>> = { "containerd-namespace": "k8s.io" };

/** A driver whose sandboxes are entries in a map. */
export class MemoryDriver implements Driver {
  /** Its name. */
  readonly kind = "memory";
  /** What it says it can do. */
  readonly capabilities: Capabilities;
  /** Sandboxes that run, with the way to end each. */
  readonly running = new Map<string, (exit: Exit) => void>();
  /** Specs that start was called with. */
  readonly started: SandboxSpec[] = [];
  /** The grace of each stop, in milliseconds. */
  readonly graces: number[] = [];
  /** Limits that update was called with. */
  readonly updates: ResourceSpec[] = [];
  /** Makes start wait until its signal fires, and then give up or go on all the same. */
  slow: "gives up" | "goes on" | undefined;
  /** Makes start fail. */
  failure: Error | undefined;
  /** Where tasks of sandboxes that are started from now on are called; undefined for nowhere else. */
  taskSocket: string | undefined;
  /** Settles when a start that is slow has begun. */
  readonly begun: PromiseWithResolvers<void> = Promise.withResolvers<void>();

  /**
   * Makes a driver without sandboxes.
   *
   * @param capabilities Those that differ from "can do nothing but update a sandbox".
   */
  constructor(capabilities: Partial<Capabilities> = {}) {
    this.capabilities = {
      exec: false,
      pause: false,
      updateContainer: false,
      updateSandbox: true,
      terminal: false,
      ...capabilities,
    };
  }

  /** See {@link Driver.start}. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    this.started.push(spec);
    if (this.failure !== undefined) throw this.failure;
    if (this.slow !== undefined) {
      await this.#aborted(signal);
      if (this.slow === "gives up") throw abortError(signal, "cannot start");
    }
    const { promise: exited, resolve } = Promise.withResolvers<Exit>();
    const end = (exit: Exit) => {
      this.running.delete(spec.id);
      resolve(exit);
    };
    this.running.set(spec.id, end);
    return {
      pid: 4242,
      record: null,
      ...this.taskSocket === undefined ? {} : { taskSocket: this.taskSocket },
      exited,
      createContainer: () => Promise.reject(new Error("no containers here")),
      update: (resources) => {
        this.updates.push(resources);
        return Promise.resolve();
      },
      stats: () =>
        Promise.resolve({
          at: 1_700_000_000_000,
          cpuNs: 5_000_000,
          memoryBytes: 1024,
          memoryLimitBytes: 4096,
          pids: 3,
        }),
      stop: (graceMs) => {
        this.graces.push(graceMs);
        end({ status: 0, at: Date.now(), reason: "exited" });
        return Promise.resolve();
      },
    };
  }

  /** See {@link Driver.adopt}: there is never anything to adopt. */
  adopt(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  #aborted(signal: AbortSignal): Promise<void> {
    this.begun.resolve();
    return new Promise((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }
}

/** Everything that a test of the Sandbox API needs. */
export interface Fixture extends AsyncDisposable {
  /** A directory that goes away with it. */
  readonly dir: string;
  /** The Sandbox API's socket. */
  readonly path: string;
  /** What its sandboxes are. */
  readonly driver: MemoryDriver;
  /** The lifecycle below the server. */
  readonly sandboxer: Sandboxer;
  /** The server under test. */
  readonly server: ControllerServer;
  /** A client that is connected to it. */
  readonly client: GrpcClient;
  /** What was logged, a line each. */
  readonly logged: readonly string[];
}

/**
 * Starts a server.
 *
 * @param driver What its sandboxes are.
 * @param store Where its state goes.
 */
export async function startFixture(
  driver: MemoryDriver = new MemoryDriver(),
  store: Store = new MemoryStore(),
): Promise<Fixture> {
  await using resources = new AsyncDisposableStack();
  const dir = await Deno.makeTempDir({ prefix: "controller-" });
  resources.defer(() => Deno.remove(dir, { recursive: true }));
  const logged: string[] = [];
  const log: Log = createLog({ level: "debug", write: (line) => logged.push(line) });
  const sandboxer = new Sandboxer({
    driver,
    store,
    mounter: noMounts,
    log,
  });
  const path = `${dir}/controller.sock`;
  const server = resources.use(
    await ControllerServer.listen({ sandboxer, path, taskAddress: "/run/test/task.sock", log }),
  );
  const client = resources.use(new GrpcClient(path));
  const owned = resources.move();
  return {
    dir,
    path,
    driver,
    sandboxer,
    server,
    client,
    logged,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A small pod on the host's network. */
const POD: MessageInitShape<typeof PodSandboxConfigSchema> = {
  metadata: { name: "web", namespace: "default", uid: "uid-1" },
  linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
};

/**
 * A Create request as CRI sends it.
 *
 * @param sandboxId Its id.
 * @param config The pod; a small one on the host's network unless given.
 */
export function createRequest(
  sandboxId: string,
  config: MessageInitShape<typeof PodSandboxConfigSchema> = POD,
): { sandboxId: string; options: { typeUrl: string; value: Uint8Array } } {
  const value = toBinary(PodSandboxConfigSchema, create(PodSandboxConfigSchema, config));
  return { sandboxId, options: { typeUrl: PodSandboxConfigSchema.typeName, value } };
}
