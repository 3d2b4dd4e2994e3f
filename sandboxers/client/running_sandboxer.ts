/**
 * A running sandboxer for programs: the management API with plain values.
 *
 * @module
 */

import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { concat } from "../bytes.ts";
import type { Output } from "../embedded/api.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Exit } from "../lifecycle/spec.ts";
import type {
  ConnectedCallOptions,
  ConnectedExecOptions,
  FoundTarget,
  LogLine,
  LogLinesOptions,
  NewLimits,
  RunningSandboxer,
  SandboxChanges,
  SandboxerEvent,
  SandboxerEventsOptions,
  SandboxerInfo,
  SandboxerStatsOptions,
  SandboxStatus,
  SandboxUsage,
} from "./api.ts";
import type { ManagementClient } from "./management_client.ts";
import {
  plainEvent,
  plainExit,
  plainInfo,
  plainLogLine,
  plainSandbox,
  plainUsage,
} from "./plain.ts";

/** Most bytes of each stream that an exec collects, unless it says otherwise. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** Bytes of standard input that are sent at a time. */
const INPUT_BYTES = 64 * 1024;

/** {@link RunningSandboxer} over a {@link ManagementClient}. */
export class ConnectedSandboxer implements RunningSandboxer {
  readonly #client: ManagementClient;

  /**
   * Takes a client over.
   *
   * @param client It is closed with this.
   */
  constructor(client: ManagementClient) {
    this.#client = client;
  }

  get address(): string {
    return this.#client.address;
  }

  async info(options?: ConnectedCallOptions): Promise<SandboxerInfo> {
    return plainInfo(await this.#client.info(options));
  }

  async list(
    labels: Readonly<Record<string, string>> = {},
    options?: ConnectedCallOptions,
  ): Promise<SandboxStatus[]> {
    return (await this.#client.list({ labels: { ...labels } }, options)).map(plainSandbox);
  }

  async get(target: string, options?: ConnectedCallOptions): Promise<FoundTarget> {
    const { sandbox, containerId, detailJson } = await this.#client.get({ target }, options);
    if (sandbox === undefined) throw new SandboxError("Internal", `cannot get "${target}": empty`);
    return {
      sandbox: plainSandbox(sandbox),
      ...(containerId === "" ? {} : { containerId }),
      detail: JSON.parse(detailJson),
    };
  }

  async *watch(options?: ConnectedCallOptions): AsyncGenerator<SandboxChanges> {
    for await (const { sandboxes, removedIds, complete } of this.#client.watch(options)) {
      yield { sandboxes: sandboxes.map(plainSandbox), removedIds, complete };
    }
  }

  async *events(options: SandboxerEventsOptions = {}): AsyncGenerator<SandboxerEvent> {
    const { since, noFollow = false, sandboxId = "", ...call } = options;
    const request = {
      noFollow,
      sandboxId,
      ...(since === undefined ? {} : { since: timestampFromMs(since) }),
    };
    for await (const event of this.#client.events(request, call)) yield plainEvent(event);
  }

  async *stats(options: SandboxerStatsOptions = {}): AsyncGenerator<SandboxUsage[]> {
    const { sandboxIds = [], intervalMs, ...call } = options;
    const request = {
      sandboxIds: [...sandboxIds],
      ...(intervalMs === undefined ? {} : { interval: durationFromMs(intervalMs) }),
    };
    for await (const { sandboxes } of this.#client.stats(request, call)) {
      yield sandboxes.map(plainUsage);
    }
  }

  async *logs(target: string, options: LogLinesOptions = {}): AsyncGenerator<LogLine> {
    const { follow = false, since, tail = 0, ...call } = options;
    const request = {
      target,
      follow,
      tail,
      ...(since === undefined ? {} : { since: timestampFromMs(since) }),
    };
    for await (const entry of this.#client.logs(request, call)) yield plainLogLine(entry);
  }

  async exec(
    target: string,
    args: readonly string[],
    options: ConnectedExecOptions = {},
  ): Promise<Output> {
    const { env = [], cwd = "", stdin, bytesMax = OUTPUT_BYTES_MAX, ...callOptions } = options;
    const input = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    using call = this.#client.attach(callOptions);
    const process = { args: [...args], env: [...env], cwd };
    const start = { target, process, stdin: input !== undefined, inherit: true };
    const sent = (async () => {
      await call.send({ message: { case: "exec", value: start } });
      for (let from = 0; from < (input?.length ?? 0); from += INPUT_BYTES) {
        const value = input?.slice(from, from + INPUT_BYTES) ?? new Uint8Array();
        await call.send({ message: { case: "stdin", value } });
      }
      call.end();
    })();
    // A process that ends before it has read everything: how it ended is what counts.
    sent.catch(() => undefined);
    const stdout = new Collected("standard output", bytesMax);
    const stderr = new Collected("standard error", bytesMax);
    for await (const { message } of call) {
      if (message.case === "stdout") stdout.add(message.value);
      else if (message.case === "stderr") stderr.add(message.value);
      else if (message.case === "exit") {
        return { exit: plainExit(message.value), stdout: stdout.bytes(), stderr: stderr.bytes() };
      }
    }
    throw new SandboxError("Internal", `cannot run ${args[0] ?? "nothing"}: its end is not known`);
  }

  async wait(target: string, options?: ConnectedCallOptions): Promise<Exit> {
    return plainExit(await this.#client.wait({ target }, options));
  }

  async kill(target: string, signal: number, options?: ConnectedCallOptions): Promise<void> {
    await this.#client.kill({ target, signal }, options);
  }

  async stop(target: string, graceMs?: number, options?: ConnectedCallOptions): Promise<void> {
    const grace = graceMs === undefined ? {} : { grace: durationFromMs(graceMs) };
    await this.#client.stop({ target, ...grace }, options);
  }

  async remove(target: string, force = false, options?: ConnectedCallOptions): Promise<void> {
    await this.#client.remove({ target, force }, options);
  }

  async pause(target: string, options?: ConnectedCallOptions): Promise<void> {
    await this.#client.pause({ target }, options);
  }

  async resume(target: string, options?: ConnectedCallOptions): Promise<void> {
    await this.#client.resume({ target }, options);
  }

  async update(
    target: string,
    { memoryBytes = 0, cpus = 0, pids = 0 }: NewLimits,
    options?: ConnectedCallOptions,
  ): Promise<void> {
    const resources = {
      memoryBytes: BigInt(Math.trunc(memoryBytes)),
      cpuMillis: BigInt(Math.round(cpus * 1000)),
      pids: BigInt(Math.trunc(pids)),
    };
    await this.#client.update({ target, resources }, options);
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** What a process has written to a stream, up to a bound. */
class Collected {
  readonly #pieces: Uint8Array[] = [];
  readonly #name: string;
  readonly #bytesMax: number;
  #length = 0;

  constructor(name: string, bytesMax: number) {
    this.#name = name;
    this.#bytesMax = bytesMax;
  }

  add(piece: Uint8Array): void {
    this.#length += piece.length;
    if (this.#length > this.#bytesMax) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot collect the ${this.#name}: it is longer than ${this.#bytesMax} bytes`,
      );
    }
    this.#pieces.push(piece);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return concat(this.#pieces);
  }
}
