/**
 * Sandboxers that are none, for tests of the commands that talk to some: they have the sandboxes that a
 * test gives them, and note what they are asked.
 *
 * @module
 */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type AttachRequestSchema,
  type AttachResponse,
  AttachResponseSchema,
  type Event,
  EventSchema,
  type Exit,
  ExitSchema,
  type LogEntry,
  LogEntrySchema,
  type Sandbox,
  SandboxSchema,
  type StatsResponse,
  StatsResponseSchema,
  type StopResponse,
  StopResponseSchema,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { Fleet } from "../../sandboxers/client/fleet.ts";
import { type AttachCall, ManagementClient } from "../../sandboxers/client/management_client.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { ClientPorts } from "../client/ports.ts";
import { NO_COLOURS } from "../show/colours.ts";

/** What a fake answers. */
export interface FakeAnswers {
  /** Its sandboxes. */
  readonly sandboxes?: readonly MessageInitShape<typeof SandboxSchema>[];
  /** What `events` gives. */
  readonly events?: readonly MessageInitShape<typeof EventSchema>[];
  /** What `logs` gives. */
  readonly logs?: readonly MessageInitShape<typeof LogEntrySchema>[];
  /** What `stats` gives, one after the other. */
  readonly stats?: readonly MessageInitShape<typeof StatsResponseSchema>[];
  /** What `wait` gives. */
  readonly exit?: MessageInitShape<typeof ExitSchema>;
  /** What an attach gives; the requests so far are there when each is asked for. */
  readonly attach?: (requests: readonly AttachMessage[]) => AsyncIterable<AttachAnswer>;
  /** What every call throws. */
  readonly failure?: SandboxError;
}

/** What is sent to an attached process. */
export type AttachMessage = MessageInitShape<typeof AttachRequestSchema>;

/** What comes from it. */
export type AttachAnswer = MessageInitShape<typeof AttachResponseSchema>;

/** A sandboxer that is none. */
export class FakeClient extends ManagementClient {
  /** What was asked of it: the name of a method, and its request. */
  readonly calls: (readonly [method: string, request: unknown])[] = [];
  /** What was sent to attached processes. */
  readonly sent: AttachMessage[] = [];
  readonly #answers: FakeAnswers;

  /** Nothing listens at its address. */
  constructor(answers: FakeAnswers = {}, address = "/nowhere/fake.sock") {
    super(address);
    this.#answers = answers;
  }

  #note(method: string, request: unknown): void {
    this.calls.push([method, request]);
    if (this.#answers.failure !== undefined) throw this.#answers.failure;
  }

  /** Its sandboxes. */
  override list(): Promise<Sandbox[]> {
    if (this.#answers.failure !== undefined) return Promise.reject(this.#answers.failure);
    return Promise.resolve(
      (this.#answers.sandboxes ?? []).map((sandbox) => create(SandboxSchema, sandbox)),
    );
  }

  /** Notes it. */
  override async stop(request: { readonly target?: string }): Promise<StopResponse> {
    await Promise.resolve(this.#note("stop", request));
    return create(StopResponseSchema, { sandboxId: request.target ?? "" });
  }

  /** Notes it. */
  override async kill(request: unknown): Promise<void> {
    await Promise.resolve(this.#note("kill", request));
  }

  /** Notes it. */
  override async pause(request: unknown): Promise<void> {
    await Promise.resolve(this.#note("pause", request));
  }

  /** Notes it, and answers. */
  override async wait(request: unknown): Promise<Exit> {
    await Promise.resolve(this.#note("wait", request));
    return create(ExitSchema, this.#answers.exit ?? {});
  }

  /** Notes it, and answers. */
  override async *events(request?: unknown): AsyncGenerator<Event> {
    await Promise.resolve(this.#note("events", request));
    for (const event of this.#answers.events ?? []) yield create(EventSchema, event);
  }

  /** Notes it, and answers. */
  override async *logs(request: unknown): AsyncGenerator<LogEntry> {
    await Promise.resolve(this.#note("logs", request));
    for (const entry of this.#answers.logs ?? []) yield create(LogEntrySchema, entry);
  }

  /** Notes it, and answers. */
  override async *stats(request?: unknown): AsyncGenerator<StatsResponse> {
    await Promise.resolve(this.#note("stats", request));
    for (const sample of this.#answers.stats ?? []) yield create(StatsResponseSchema, sample);
  }

  /** Notes what is sent, and answers. */
  override attach(): AttachCall {
    const { sent } = this;
    const answers = this.#answers.attach?.(sent);
    let isOver = false;
    return {
      send: (message) => {
        if (isOver) return Promise.reject(new SandboxError("Cancelled", "the call has ended"));
        sent.push(message);
        return Promise.resolve();
      },
      end: () => undefined,
      cancel: () => {
        isOver = true;
      },
      async *[Symbol.asyncIterator](): AsyncGenerator<AttachResponse> {
        for await (const answer of answers ?? []) {
          if (isOver) throw new SandboxError("Cancelled", "the call was given up");
          yield create(AttachResponseSchema, answer);
        }
      },
      [Symbol.dispose]: () => {
        isOver = true;
      },
    };
  }
}

/** What a command did. */
export interface Said {
  /** What it wrote to standard output. */
  readonly output: string;
  /** What it told on standard error, a line each. */
  readonly errors: readonly string[];
}

/** The world of a command, with fakes in it. */
export class FakePorts implements ClientPorts {
  readonly #clients: readonly ManagementClient[];
  readonly #input: Uint8Array;
  readonly #decoder = new TextDecoder();
  #output = "";
  #errors: string[] = [];
  /** The addresses that were asked for. */
  addresses: readonly string[] = [];

  /** Has these sandboxers, and reads this text. */
  constructor(clients: readonly ManagementClient[], input = "") {
    this.#clients = clients;
    this.#input = new TextEncoder().encode(input);
  }

  /** What was said so far. */
  get said(): Said {
    return { output: this.#output, errors: this.#errors };
  }

  /** Gives its sandboxers. */
  open(addresses: readonly string[]): Promise<Fleet> {
    this.addresses = addresses;
    return Promise.resolve(new Fleet(this.#clients));
  }

  /** Notes it. */
  print(text: string): void {
    this.#output += text;
  }

  /** Notes it. */
  complain(message: string): void {
    this.#errors.push(message);
  }

  /** None. */
  colours(): typeof NO_COLOURS {
    return NO_COLOURS;
  }

  /** Always the same. */
  now(): number {
    return Date.parse("2026-01-01T12:00:00Z");
  }

  /** None. */
  terminal(): undefined {
    return undefined;
  }

  /** What is read and written. */
  readonly streams: ClientPorts["streams"] = {
    input: () => ReadableStream.from(this.#input.length === 0 ? [] : [this.#input]),
    output: (bytes) => {
      this.#output += this.#decoder.decode(bytes);
      return Promise.resolve();
    },
    error: (bytes) => {
      this.#errors.push(this.#decoder.decode(bytes));
      return Promise.resolve();
    },
  };
}

/**
 * Runs one command of the command line.
 *
 * @param make Makes the command.
 * @param ports Its world.
 * @param args Its arguments.
 * @returns The exit code.
 */
export async function runCommandWith<P extends ClientPorts>(
  make: (end: (code: number) => void, ports: P) => import("commander").Command,
  ports: P,
  args: readonly string[],
): Promise<number> {
  let code = -1;
  const command = make((ended) => {
    code = ended;
  }, ports);
  await command.exitOverride().configureOutput({ writeErr: () => undefined })
    .parseAsync([...args], { from: "user" });
  return code;
}
