/**
 * Looks after those who must not suffer while a guest misbehaves: a guest of another pod that
 * answers what it is sent, and the sandboxer itself, which is asked for something cheap.
 *
 * @module
 */

import { Controller } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import type { GrpcClient } from "../../proto/grpc.ts";
import type { HostileContainer } from "./container.ts";
import type { HostilePod } from "./node.ts";

/** Between two questions, in milliseconds. */
const INTERVAL_MS = 25;

/**
 * How long an answer may take before somebody is taken for hung, in milliseconds: far beyond what a
 * busy machine does.
 */
const HANG_MS = 20_000;

/** What was seen of both. */
export interface Watched {
  /** The neighbour, in words. */
  readonly neighbour: string;
  /** The sandboxer's answers, in words. */
  readonly answers: string;
}

/** Asks again and again, and remembers the longest time that an answer took. */
class Questioner {
  readonly #what: string;
  readonly #ask: () => Promise<void>;
  #maxMs = 0;
  #count = 0;
  #finished = false;
  #loop: Promise<void> | undefined;

  constructor(what: string, ask: () => Promise<void>) {
    this.#what = what;
    this.#ask = ask;
  }

  begin(): void {
    this.#loop ??= this.#run();
    // Who waits for the end hears of a failure; until then it is nobody's.
    this.#loop.catch(() => {});
  }

  /** Ends the questions after at least one more, and says what the answers were like. */
  async finish(): Promise<string> {
    await this.end();
    return `${this.#what} ${this.#count} times, at most ${Math.ceil(this.#maxMs)} ms`;
  }

  async end(): Promise<void> {
    this.#finished = true;
    await this.#loop;
  }

  async #run(): Promise<void> {
    let last = false;
    while (!last) {
      // One question is always asked after the end of what is watched.
      last = this.#finished;
      const begin = performance.now();
      await this.#ask();
      this.#maxMs = Math.max(this.#maxMs, performance.now() - begin);
      this.#count++;
      if (!last) await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }
}

/** A guest that sends back what it is sent. */
export class Neighbour implements AsyncDisposable {
  readonly #questions: Questioner;
  readonly #container: HostileContainer;
  #number = 0;

  private constructor(container: HostileContainer) {
    this.#container = container;
    this.#questions = new Questioner("neighbour answered", () => this.#ask());
  }

  /**
   * Starts one.
   *
   * @param pod Its pod.
   */
  static async start(pod: HostilePod): Promise<Neighbour> {
    const neighbour = new Neighbour(await pod.run({ args: ["/cat.wasm"], stdin: true }));
    await neighbour.#ask();
    return neighbour;
  }

  /** Begins to ask it. */
  begin(): void {
    this.#questions.begin();
  }

  /** Stops asking it; says how it answered. */
  async finish(): Promise<string> {
    return await this.#questions.finish();
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#questions.end().catch(() => {});
    await this.#container[Symbol.asyncDispose]();
  }

  async #ask(): Promise<void> {
    const line = `question ${this.#number++};`;
    this.#container.write(line);
    await this.#container.printed(line, HANG_MS);
  }
}

/** Asks the sandboxer for the status of a pod. */
export class Probe implements AsyncDisposable {
  readonly #questions: Questioner;

  private constructor(ask: () => Promise<void>) {
    this.#questions = new Questioner("sandboxer answered", ask);
    this.#questions.begin();
  }

  /**
   * Begins to ask.
   *
   * @param client A connection.
   * @param sandboxId The pod.
   * @param namespace Its namespace.
   */
  static start(client: GrpcClient, sandboxId: string, namespace: string): Probe {
    const metadata = { "containerd-namespace": namespace };
    return new Probe(async () => {
      const { state } = await client.call(
        Controller.method.status,
        { sandboxId },
        { metadata, timeoutMs: HANG_MS },
      );
      if (state !== "SANDBOX_READY") throw new Error(`the neighbour's pod is ${state}`);
    });
  }

  /** Stops asking; says how it answered. */
  async finish(): Promise<string> {
    return await this.#questions.finish();
  }

  /** Stops asking. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#questions.end().catch(() => {});
  }
}
