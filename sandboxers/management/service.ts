/**
 * The management API on the lifecycle: what one sandboxer serves beside the Sandbox API, on the same
 * socket. Its streams are bounded in number and end at once when the process is about to go, so that
 * whoever looks on never holds up what containerd asks for.
 *
 * @module
 */

import type { ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import { Management } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import {
  type CancellableCall,
  type EndedCall,
  type OpenCall,
  servedDefinition,
  serviceImplementation,
} from "../../proto/grpc_service.ts";
import { OpenCalls } from "../controller/calls.ts";
import type { ServedService } from "../controller/server.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { EventHistory } from "./events.ts";
import { viewHandlers } from "./handlers.ts";
import type { ManagementHandlers, ManagementPorts, Runs } from "./ports.ts";
import { StatsSampler } from "./stats.ts";
import { SandboxWatch } from "./watch.ts";

/** Most streams that are open at a time, for all clients together. */
export const STREAMS_MAX = 1024;

/** Calls whose answers can be large: they are open until somebody has read them. */
const READS: ReadonlySet<string> = new Set<keyof ManagementHandlers>(["info", "list", "get"]);

/** Most of {@link READS} that are open at a time. */
const READS_MAX = 256;

/** Options of {@link ManagementService}. */
export interface ManagementServiceOptions {
  /** What serves the calls that make sandboxes. */
  readonly runs: (ports: ManagementPorts) => Runs;
  /** Most streams that are open at a time. Default {@link STREAMS_MAX}. */
  readonly streamsMax?: number;
}

/** The management API of one sandboxer. */
export class ManagementService implements ServedService, AsyncDisposable {
  /** The methods that it serves. */
  readonly definition: ServiceDefinition = servedDefinition(Management);
  readonly #ports: ManagementPorts;
  readonly #runs: Runs;
  readonly #events = new EventHistory();
  readonly #streams = new OpenCalls();
  readonly #reads = new OpenCalls();
  readonly #streamsMax: number;
  readonly #subscription: Disposable;

  /**
   * Begins to remember events; nothing is served yet.
   *
   * @param ports What it is made of.
   * @param options See {@link ManagementServiceOptions}.
   */
  constructor(ports: ManagementPorts, options: ManagementServiceOptions) {
    this.#ports = ports;
    this.#streamsMax = options.streamsMax ?? STREAMS_MAX;
    this.#runs = options.runs(ports);
    this.#subscription = ports.sandboxer.subscribe(this.#events.add);
  }

  /** How many streams are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Takes up what an earlier process left; call it before anything listens. */
  recover(): Promise<void> {
    return this.#runs.recover();
  }

  /** The implementation for `Server.addService`; calls that change something are kept in `calls`. */
  implementation(calls: OpenCalls): UntypedServiceImplementation {
    const { sandboxer } = this.#ports;
    const handlers = {
      ...this.#runs.handlers,
      ...viewHandlers({
        ports: this.#ports,
        runs: this.#runs,
        events: this.#events,
        watch: new SandboxWatch(sandboxer),
        stats: new StatsSampler(sandboxer),
        streams: () => this.streams,
      }),
    };
    return serviceImplementation(Management, handlers, {
      open: (call, { methodKind, localName }) => {
        if (methodKind !== "unary") return opened(this.#streams, call, this.#streamsMax, "stream");
        if (READS.has(localName)) return opened(this.#reads, call, READS_MAX, "call");
        return calls.open(call);
      },
      ended: (ended) => this.#log(ended),
    });
  }

  /** Ends the calls of those who only look on. */
  endCalls(reason: SandboxError): void {
    this.#streams.abort(reason);
    this.#reads.abort(reason);
  }

  #log({ method, request, ms, error, planned }: EndedCall): void {
    const target = request !== undefined && "target" in request ? { target: request.target } : {};
    const fields = { method: method.name, ...target, ms: Math.round(ms) };
    const { log, telemetry } = this.#ports;
    telemetry?.answered({ service: "Management", method: method.name }, error?.code ?? "OK", ms);
    if (error === undefined) log.debug("call", fields);
    else log[planned === true ? "debug" : "error"]("call failed", { ...fields, error });
  }

  /** Lets go of everything that was kept for the runs; what runs goes on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]();
    await this.#runs[Symbol.asyncDispose]();
  }
}

/** Opens a call, unless there are too many of its sort. */
function opened(calls: OpenCalls, call: CancellableCall, max: number, what: string): OpenCall {
  if (calls.size < max) return calls.open(call);
  throw new SandboxError(
    "ResourceExhausted",
    `cannot open another ${what}: ${max} are open; end some and try again`,
  );
}
