/**
 * For tests of the management API: a real gRPC server on a socket of its own, on a real lifecycle whose
 * driver is a fake, and a client.
 *
 * @module
 */

import { ManagementClient } from "../client/management_client.ts";
import { ControllerServer } from "../controller/server.ts";
import { type Fixture, fixture, type FixtureOptions } from "../lifecycle/testing/fixture.ts";
import { createLog } from "../log.ts";
import { noRuns } from "./no_runs.ts";
import type { KindAbilities, ManagementPorts, Runs } from "./ports.ts";
import { ManagementService } from "./service.ts";

/** How a {@link Managed} differs from the plain one. */
export interface ManagedOptions extends FixtureOptions {
  /** What the kind adds. */
  readonly abilities?: KindAbilities;
  /** What makes sandboxes; nothing unless given. */
  readonly runs?: (ports: ManagementPorts) => Runs;
  /** Most streams that are open at a time. */
  readonly streamsMax?: number;
}

/** A served management API, with the world around it. */
export class Managed implements AsyncDisposable {
  readonly #resources: AsyncDisposableStack;

  private constructor(
    /** The lifecycle and what is around it. */
    readonly world: Fixture,
    /** The service. */
    readonly service: ManagementService,
    /** The server. */
    readonly server: ControllerServer,
    /** The socket. */
    readonly path: string,
    /** A client. */
    readonly client: ManagementClient,
    /** What was logged. */
    readonly logged: readonly string[],
    resources: AsyncDisposableStack,
  ) {
    this.#resources = resources;
  }

  /**
   * Serves.
   *
   * @param options See {@link ManagedOptions}.
   */
  static async serve(options: ManagedOptions = {}): Promise<Managed> {
    await using resources = new AsyncDisposableStack();
    const world = fixture(options);
    const { sandboxer } = world;
    const dir = await Deno.makeTempDir({ prefix: "quasaur-management-" });
    resources.defer(() => Deno.remove(dir, { recursive: true }));
    const logged: string[] = [];
    const log = createLog({ level: "info", write: (line) => void logged.push(line) });
    const service = resources.use(
      new ManagementService({
        sandboxer,
        dir,
        log,
        version: "1.2.3",
        startedAt: 1_000_000,
        abilities: options.abilities ?? {},
      }, {
        runs: options.runs ?? noRuns,
        ...(options.streamsMax === undefined ? {} : { streamsMax: options.streamsMax }),
      }),
    );
    const path = `${dir}/fake.sock`;
    const taskAddress = `${dir}/task.sock`;
    const services = [service];
    const server = resources.use(
      await ControllerServer.listen({ sandboxer, path, taskAddress, log, services }),
    );
    const client = resources.use(new ManagementClient(path));
    return new Managed(world, service, server, path, client, logged, resources.move());
  }

  /** Another client. */
  connect(): ManagementClient {
    return new ManagementClient(this.path);
  }

  /** Stops serving. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}
