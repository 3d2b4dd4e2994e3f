/**
 * For tests of sandboxes that are made through the management API: the handlers on a real lifecycle
 * whose driver is a fake, with real FIFOs and files. What a container writes, the test writes.
 *
 * @module
 */

import { closeSync, constants, openSync, writeSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AttachRequest,
  AttachRequestSchema,
  LogsRequestSchema,
  type RunRequest,
  RunRequestSchema,
} from "../../../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { Capabilities } from "../../../lifecycle/driver.ts";
import { Sandboxer } from "../../../lifecycle/sandboxer.ts";
import { FileStore } from "../../../lifecycle/store.ts";
import { FakeDriver } from "../../../lifecycle/testing/fake_driver.ts";
import { FakeHost } from "../../../lifecycle/testing/fake_host.ts";
import { FakeMounter, FakeMounts } from "../../../lifecycle/testing/fake_mounter.ts";
import { TestGate } from "../../../lifecycle/testing/gate.ts";
import { createLog } from "../../../log.ts";
import type { KindAbilities, Runs } from "../../ports.ts";
import type { SnapshotAbilities } from "../abilities.ts";
import { runHandlers } from "../handlers.ts";
import type { Answer } from "../session.ts";

/** A sandbox to run: a plain one, but for what is given. */
export type RunWishes = Exclude<MessageInitShape<typeof RunRequestSchema>, RunRequest>;

/** What a sandbox that was made is called. */
export interface MadeRun {
  /** The id of the sandbox. */
  readonly sandboxId: string;
  /** The id of its container. */
  readonly containerId: string;
  /** What it is called. */
  readonly name: string;
}

/** How a {@link RunWorld} differs from the plain one. */
export interface WorldOptions {
  /** Abilities that the driver lacks. */
  readonly capabilities?: Partial<Capabilities>;
  /** Whether containers outlive the sandboxer. Default true. */
  readonly outlives?: boolean;
  /** Snapshots of the kind. */
  readonly snapshots?: SnapshotAbilities;
}

/** A message that a client has got, in words. */
export type Heard = readonly [kind: string, text: string];

/** See the module. */
export class RunWorld implements AsyncDisposable {
  readonly #options: WorldOptions;
  /** The state directory. */
  readonly dir: string;
  /** The machine. */
  readonly host: FakeHost;
  /** What is mounted. */
  readonly mounts: FakeMounts;
  /** Where effects can be held or made to fail. */
  readonly gate = new TestGate();
  /** The lifecycle. */
  readonly sandboxer: Sandboxer;
  /** What is tested. */
  readonly runs: Runs;
  /** What was logged at `warn` or above. */
  readonly logged: string[] = [];

  private constructor(dir: string, options: WorldOptions, earlier?: RunWorld) {
    this.#options = options;
    this.dir = dir;
    this.host = earlier?.host ?? new FakeHost();
    this.mounts = earlier?.mounts ?? new FakeMounts();
    const { host, gate } = this;
    const { capabilities = {}, outlives = true, snapshots } = options;
    const log = createLog({ level: "warn", write: (line) => void this.logged.push(line) });
    this.sandboxer = new Sandboxer({
      driver: new FakeDriver({ host, gate, capabilities, outlives: () => outlives }),
      store: new FileStore(dir),
      mounter: new FakeMounter(this.mounts),
      log,
    });
    const abilities: KindAbilities = {
      runs: { fifos: { make: makeFifos }, network: { kind: "none" }, env: ["PATH=/bin"] },
      ...(snapshots === undefined ? {} : { snapshots }),
    };
    const { sandboxer } = this;
    this.runs = runHandlers({ sandboxer, dir, log, version: "1", startedAt: 0, abilities });
  }

  /** A world in which nothing runs. */
  static async make(options: WorldOptions = {}): Promise<RunWorld> {
    const dir = await Deno.makeTempDir({ prefix: "quasaur-runs-" });
    const world = new RunWorld(dir, options);
    await Deno.mkdir(`${dir}/image`);
    await world.runs.recover();
    return world;
  }

  /** Another sandboxer on the same machine: this one has crashed, and is not used any more. */
  async next(): Promise<RunWorld> {
    await this.sandboxer.close();
    await this.runs[Symbol.asyncDispose]();
    const next = new RunWorld(this.dir, this.#options, this);
    await next.sandboxer.recover();
    await next.runs.recover();
    return next;
  }

  /** Runs a sandbox. */
  async run(wishes: RunWishes = {}, signal = new AbortController().signal): Promise<MadeRun> {
    const all: RunWishes = {
      rootfs: { source: { case: "templateDirectory", value: `${this.dir}/image` } },
      process: { args: ["app"] },
      ...wishes,
    };
    const request = create(RunRequestSchema, all);
    const { sandboxId = "", containerId = "", name = "" } = await this.runs.handlers
      .run(request, { signal });
    return { sandboxId, containerId, name };
  }

  /** A container writes. */
  write({ sandboxId, containerId }: MadeRun, text: string, stream = "stdout", exec = ""): void {
    const directory = `${this.dir}/io/${sandboxId}/${containerId}${exec && `/${exec}`}`;
    const fd = openSync(`${directory}/${stream}`, constants.O_RDWR | constants.O_NONBLOCK);
    writeSync(fd, text);
    closeSync(fd);
  }

  /** A process ends. */
  end({ containerId }: MadeRun, status = 0, exec = ""): void {
    const process = this.host.container(containerId)?.processes.get(exec);
    if (process === undefined) throw new Error(`process ${containerId}/${exec} does not run`);
    process.end({ status, at: Date.now(), reason: "exited" });
  }

  /** What is kept of a container's output; more than one target is joined. */
  async logs(target: string, more: { follow?: boolean; tail?: number } = {}): Promise<string> {
    const request = create(LogsRequestSchema, { target, ...more });
    const { signal } = new AbortController();
    let text = "";
    for await (const entry of this.runs.handlers.logs(request, { signal })) {
      const { content = new Uint8Array(), partial } = entry;
      text += new TextDecoder().decode(content) + (partial ? "" : "\n");
    }
    return text;
  }

  /**
   * Connects a client.
   *
   * @param first What it says first.
   */
  attach(first: MessageInitShape<typeof AttachRequestSchema>): AttachedClient {
    return new AttachedClient(this.runs, first);
  }

  /** The names in a directory of the state directory. */
  async left(name: string): Promise<string[]> {
    const entries = Deno.readDir(`${this.dir}/${name}`);
    return (await Array.fromAsync(entries).catch(() => [])).map((entry) => entry.name);
  }

  /** Everything ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.runs[Symbol.asyncDispose]();
    await this.sandboxer.close();
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** A client that is attached. */
export class AttachedClient {
  readonly #leave = new AbortController();
  readonly #said: (AttachRequest | undefined)[] = [];
  #wake = Promise.withResolvers<void>();
  readonly #answers: AsyncIterator<Answer>;

  /** Connects. */
  constructor(runs: Runs, first: MessageInitShape<typeof AttachRequestSchema>) {
    this.say(first);
    const { signal } = this.#leave;
    this.#answers = runs.handlers.attach(this.#requests(), { signal })[Symbol.asyncIterator]();
  }

  /** Says something; undefined for no more. */
  say(message: MessageInitShape<typeof AttachRequestSchema> | undefined): void {
    this.#said.push(message === undefined ? undefined : create(AttachRequestSchema, message));
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  /** Writes to standard input. */
  type(text: string): void {
    this.say({ message: { case: "stdin", value: new TextEncoder().encode(text) } });
  }

  async *#requests(): AsyncGenerator<AttachRequest> {
    for (;;) {
      if (this.#said.length === 0) {
        await this.#wake.promise;
        continue;
      }
      const message = this.#said.shift();
      if (message === undefined) return;
      yield message;
    }
  }

  /** The next message. */
  async hear(): Promise<Heard> {
    const { done, value } = await this.#answers.next();
    if (done === true) return ["end", ""];
    const { message } = value;
    if (message?.value instanceof Uint8Array) {
      return [message.case ?? "", new TextDecoder().decode(message.value)];
    }
    if (message?.case === "exit") return ["exit", `${message.value.status}`];
    if (message?.case === "started") return ["started", message.value.execId ?? ""];
    return ["nothing", ""];
  }

  /** All that comes until the end; output of a stream that follows itself is joined. */
  async hearAll(): Promise<Heard[]> {
    const heard: Heard[] = [];
    for (let next = await this.hear(); next[0] !== "end"; next = await this.hear()) {
      const last = heard.at(-1);
      if (last?.[0] === next[0]) heard[heard.length - 1] = [next[0], last[1] + next[1]];
      else heard.push(next);
    }
    return heard;
  }

  /** Output until there is a text in it. */
  async hearUntil(text: string): Promise<string> {
    let heard = "";
    while (!heard.includes(text)) {
      const [kind, more] = await this.hear();
      if (kind === "end" || kind === "exit") throw new Error(`${kind} ${more} after ${heard}`);
      if (kind !== "started") heard += more;
    }
    return heard;
  }

  /** Goes away without a word. */
  async leave(): Promise<void> {
    this.#leave.abort();
    await this.#answers.return?.().catch(() => undefined);
  }
}

async function makeFifos(paths: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("mkfifo", { args: [...paths] }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
