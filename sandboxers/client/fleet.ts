/**
 * All sandboxers of this machine at once: lists over all of them, and finds what a person means by a
 * name or the beginning of an id in whichever of them it is.
 *
 * @module
 */

import type { CallOptions } from "../../proto/grpc.ts";
import type {
  Container,
  InfoResponse,
  Sandbox,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { containerOf, findTarget } from "../management/targets.ts";
import { type FindOptions, findSandboxers } from "./find.ts";
import { ManagementClient } from "./management_client.ts";

/** A sandbox with the sandboxer that has it. */
export interface FleetSandbox {
  /** The sandboxer. */
  readonly client: ManagementClient;
  /** The sandbox as it was when it was asked for. */
  readonly sandbox: Sandbox;
}

/** What a target means. */
export interface FleetTarget extends FleetSandbox {
  /** Set where the target is a container. */
  readonly container?: Container;
}

/** What a target means where it must be a container. */
export interface FleetContainer extends FleetSandbox {
  /** The container. */
  readonly container: Container;
}

/** A sandboxer and what it says of itself. */
export interface FleetInfo {
  /** The sandboxer. */
  readonly client: ManagementClient;
  /** What it says. */
  readonly info: InfoResponse;
}

/** What {@link Fleet.listAnswering} finds. */
export interface FleetList {
  /** The sandboxes of those that answered. */
  readonly found: readonly FleetSandbox[];
  /** Why the others did not. */
  readonly problems: readonly SandboxError[];
}

/** How long a sandboxer may take to say what it is or has, in milliseconds. */
const ANSWER_MS = 5_000;

/** The sandboxers that were found, each with a client. Closes them when disposed of. */
export class Fleet implements Disposable {
  /** A client for each sandboxer. */
  readonly clients: readonly ManagementClient[];
  /** Why default sockets that are there could not be used. */
  readonly problems: readonly SandboxError[];

  /**
   * Takes clients over.
   *
   * @param clients One for each sandboxer; they are closed with this.
   * @param problems See {@link Fleet.problems}.
   */
  constructor(clients: readonly ManagementClient[], problems: readonly SandboxError[] = []) {
    this.clients = clients;
    this.problems = problems;
  }

  /**
   * Finds the sandboxers; may find none.
   *
   * @param options Where to look.
   * @throws {SandboxError} See {@link findSandboxers}.
   */
  static async open(options: FindOptions = {}): Promise<Fleet> {
    const { addresses, problems } = await findSandboxers(options);
    return new Fleet(addresses.map((address) => new ManagementClient(address)), problems);
  }

  /**
   * Refuses to go on without any sandboxer.
   *
   * @throws {SandboxError} `Unavailable` or `PermissionDenied`, saying what to do.
   */
  mustHaveSome(): void {
    if (this.clients.length > 0) return;
    const [problem] = this.problems;
    throw problem ?? new SandboxError(
      "Unavailable",
      "no sandboxer is running: nobody listens at its default socket below /run/quasaur; start " +
        "one, or name its socket with --address",
    );
  }

  /** What each of them says of itself, in the order of {@link Fleet.clients}. */
  async infos(options?: CallOptions): Promise<FleetInfo[]> {
    return await Promise.all(
      this.clients.map(async (client) => ({ client, info: await client.info(options) })),
    );
  }

  /**
   * The sandboxer of a kind.
   *
   * @param kind `wasm`, `vmm` or `quark`.
   * @returns Undefined where none was found.
   * @throws {SandboxError} Where one does not answer and none of the others is of that kind.
   */
  async ofKind(kind: string, options: CallOptions = {}): Promise<ManagementClient | undefined> {
    const problems: SandboxError[] = [];
    const kinds = await Promise.all(this.clients.map(async (client): Promise<string> => {
      try {
        return (await client.info({ timeoutMs: ANSWER_MS, ...options })).kind;
      } catch (error) {
        const { code, message } = SandboxError.from(error);
        problems.push(
          new SandboxError(code, `cannot ask what serves at "${client.address}": ${message}`),
        );
        return "";
      }
    }));
    const found = this.clients[kinds.indexOf(kind)];
    const [problem] = problems;
    if (found === undefined && problem !== undefined) throw problem;
    return found;
  }

  /**
   * The sandboxes of those that answer, soon: one that is being restarted holds its callers.
   *
   * @throws {SandboxError} Where there are sandboxers and none of them answers.
   */
  async listAnswering(
    request: { readonly namespace?: string; readonly labels?: Record<string, string> } = {},
    options: CallOptions = {},
  ): Promise<FleetList> {
    const problems: SandboxError[] = [];
    const lists = await Promise.all(this.clients.map(async (client): Promise<FleetSandbox[]> => {
      try {
        const sandboxes = await client.list(request, { timeoutMs: ANSWER_MS, ...options });
        return sandboxes.map((sandbox) => ({ client, sandbox }));
      } catch (error) {
        const { code, message } = SandboxError.from(error);
        const reason = code === "DeadlineExceeded"
          ? "no answer in time: it may be restarting, have too much to do, or be no sandboxer"
          : message;
        problems.push(
          new SandboxError(code, `cannot list the sandboxes at "${client.address}": ${reason}`),
        );
        return [];
      }
    }));
    const [problem] = problems;
    if (problem !== undefined && problems.length === this.clients.length) throw problem;
    return { found: lists.flat(), problems };
  }

  /**
   * Finds a sandbox or container.
   *
   * @param target An id, a name, `SANDBOX/CONTAINER`, or a unique prefix of an id.
   * @throws {SandboxError} `NotFound`, `InvalidArgument` where it fits several; see
   *   {@link Fleet.mustHaveSome} where there is no sandboxer; where a sandboxer does not answer and
   *   the others do not have it, why that is.
   */
  async resolve(target: string, options?: CallOptions): Promise<FleetTarget> {
    this.mustHaveSome();
    const { found, problems: [problem] } = await this.listAnswering({}, options);
    const clients = new Map(found.map(({ client, sandbox }) => [sandbox, client]));
    const { sandbox, container } = findAmong(clients.keys(), target, problem);
    const client = clients.get(sandbox);
    if (client === undefined) throw new SandboxError("Internal", `cannot find "${target}"`);
    return { client, sandbox, ...(container === undefined ? {} : { container }) };
  }

  /**
   * Finds a container; a sandbox stands for its only one.
   *
   * @param target As for {@link Fleet.resolve}.
   * @param action What is to be done, for messages, such as `cannot exec in`.
   * @throws {SandboxError} As {@link Fleet.resolve}; `FailedPrecondition` for a sandbox with none or
   *   several containers.
   */
  async resolveContainer(
    target: string,
    action: string,
    options?: CallOptions,
  ): Promise<FleetContainer> {
    const found = await this.resolve(target, options);
    const { client, sandbox } = found;
    return { client, sandbox, container: containerOf(found, action) };
  }

  /** Closes all connections. */
  [Symbol.dispose](): void {
    for (const client of this.clients) client.close();
  }
}

/** Finds a target; where it is not there, a sandboxer that did not answer may be why. */
function findAmong(
  sandboxes: Iterable<Sandbox>,
  target: string,
  problem: SandboxError | undefined,
): { readonly sandbox: Sandbox; readonly container?: Container } {
  try {
    return findTarget(sandboxes, target);
  } catch (error) {
    if (problem === undefined || SandboxError.from(error).code !== "NotFound") throw error;
    throw new SandboxError(
      problem.code,
      `no sandbox or container "${target}" found where a sandboxer answers; ${problem.message}`,
      { cause: error },
    );
  }
}
