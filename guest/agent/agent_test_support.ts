/**
 * Drives the real agent in tests without a virtual machine: the program is built once for each state
 * of its sources, started as a plain process, and talked to over its unix socket with the host's own
 * end of the protocol.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { buildAgent } from "./build.ts";
import type {
  AgentEvent,
  AgentFailure,
  GuestStdio,
  ProcessExit,
  RequestName,
  Requests,
} from "../protocol/messages.ts";
import { HostPeer } from "../protocol/host_peer.ts";
import type { InboundStream, OutboundStream } from "../protocol/peer.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";

const SOURCES = ["../agent", "../agent/native", "../protocol"];
const WAIT_MS = 60_000;
const OLD_BUILD_MS = 30 * 60_000;

let built: Promise<string> | undefined;

/** The agent's program; built where there is none of these sources. */
export function agentProgram(): Promise<string> {
  built ??= buildOnce();
  return built;
}

async function buildOnce(): Promise<string> {
  const builds = fileURLToPath(new URL("build/", import.meta.url));
  const outDir = `${builds}test-${await hashOfSources()}`;
  const program = `${outDir}/quasaur-agent`;
  try {
    await Deno.stat(program);
    return program;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await removeOldBuilds(builds);
  return await buildAgent({ outDir });
}

/** Removes what earlier sources were built to, unless a test that runs beside this may use it. */
async function removeOldBuilds(builds: string): Promise<void> {
  const entries = await Array.fromAsync(Deno.readDir(builds)).catch(() => []);
  for (const { name } of entries.filter(({ name }) => name.startsWith("test-"))) {
    const { mtime } = await Deno.stat(`${builds}${name}`);
    const ageMs = Date.now() - (mtime?.getTime() ?? 0);
    if (ageMs > OLD_BUILD_MS) await Deno.remove(`${builds}${name}`, { recursive: true });
  }
}

async function hashOfSources(): Promise<string> {
  const texts: string[] = [];
  for (const place of SOURCES) {
    const directory = new URL(`${place}/`, import.meta.url);
    const names: string[] = [];
    for await (const entry of Deno.readDir(directory)) {
      const isSource = /\.(ts|js|c|h)$/.test(entry.name) && !entry.name.includes("_test");
      if (entry.isFile && isSource) names.push(entry.name);
    }
    for (const name of names.sort()) {
      texts.push(name, await Deno.readTextFile(new URL(name, directory)));
    }
  }
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(texts.join("\0")));
  return new Uint8Array(digest).slice(0, 8).toHex();
}

/** An agent that runs as a plain process. */
export class TestAgent implements AsyncDisposable {
  /** The directory of its socket. */
  readonly directory: string;
  /** Its socket. */
  readonly socket: string;
  /** The process. */
  readonly child: Deno.ChildProcess;

  private constructor(directory: string, socket: string, child: Deno.ChildProcess) {
    this.directory = directory;
    this.socket = socket;
    this.child = child;
  }

  /** Starts one; it runs in a directory of its own. */
  static async start(): Promise<TestAgent> {
    const program = await agentProgram();
    const directory = await Deno.makeTempDir({ prefix: "agent-test-" });
    const socket = `${directory}/agent.sock`;
    const child = new Deno.Command(program, {
      env: { QUASAUR_AGENT_SOCKET: socket },
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    const agent = new TestAgent(directory, socket, child);
    await eventually("the agent's socket", async () => {
      const connection = await agent.connectRaw().catch(() => undefined);
      connection?.close();
      return connection !== undefined;
    });
    return agent;
  }

  /** Connects without the protocol. */
  connectRaw(): Promise<Deno.UnixConn> {
    return Deno.connect({ transport: "unix", path: this.socket });
  }

  /** Its open descriptors. */
  openDescriptors(): number {
    return [...Deno.readDirSync(`/proc/${this.child.pid}/fd`)].length;
  }

  /** Processes whose parent it is, with those that have ended. */
  async children(): Promise<string[]> {
    const text = await Deno.readTextFile(
      `/proc/${this.child.pid}/task/${this.child.pid}/children`,
    );
    return text.trim().split(" ").filter((pid) => pid !== "");
  }

  /** Its resident memory in KiB. */
  async residentKib(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.child.pid}/status`);
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? NaN);
  }

  /** Kills it and removes its directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** What a stream has brought. */
export interface Collected {
  /** All bytes so far. */
  readonly bytes: Uint8Array;
  /** The bytes as text. */
  readonly text: string;
}

/** A host that talks with an agent, over one or several connections. */
export class TestHost implements Disposable {
  /** What the agent said unasked. */
  readonly events: AgentEvent[] = [];
  /** What happened to the connection. */
  readonly notes: string[] = [];
  readonly #peer: HostPeer;
  readonly #path: string;
  #connection: Deno.UnixConn | undefined;
  #wasConnected = false;
  #lastStream: number;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  private constructor(path: string, lastStream: number) {
    this.#path = path;
    this.#lastStream = lastStream;
    this.#peer = new HostPeer({
      random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
      timer: (run, delayMs) => {
        const id = setTimeout(() => {
          this.#timers.delete(id);
          run();
        }, delayMs);
        this.#timers.add(id);
        return () => {
          this.#timers.delete(id);
          clearTimeout(id);
        };
      },
      now: () => performance.now(),
      event: (event) => this.events.push(event),
      connected: () => {},
      disconnected: (reason) => this.notes.push(`disconnected: ${reason}`),
      over: (end) => this.notes.push(`over: ${JSON.stringify(end)}`),
      log: (message) => this.notes.push(message),
    });
  }

  /** Connects a new host. Its stream ids begin after `lastStream`. */
  static async connect(agent: Pick<TestAgent, "socket">, lastStream = 0): Promise<TestHost> {
    const host = new TestHost(agent.socket, lastStream);
    await host.reconnect();
    return host;
  }

  /** Cuts the connection as it is. */
  cut(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** Connects, again perhaps. */
  async reconnect(): Promise<void> {
    const connection = await Deno.connect({ transport: "unix", path: this.#path });
    this.#connection = connection;
    const transport = new ConnectionTransport(connection);
    const sink = this.#peer.attach(transport, this.#wasConnected);
    this.#wasConnected = true;
    void transport.run(sink);
    await eventually("the agent's answer", () => this.#peer.connected);
  }

  /** A stream id that was not used. */
  newStream(): number {
    return ++this.#lastStream;
  }

  /** Asks whether the agent is there; calls back when it answers. */
  ping(answered: () => void): void {
    this.#peer.ping(answered);
  }

  /** Asks, and waits for the answer; a failure is thrown as an {@link AgentRefusal}. */
  request<K extends RequestName>(op: K, args: Requests[K]["args"]): Promise<Requests[K]["result"]> {
    return new Promise((resolve, reject) => {
      const problem = this.#peer.request(op, args, (outcome) => {
        if (outcome.kind === "result") resolve(outcome.result);
        else reject(new AgentRefusal(outcome.failure));
      });
      if (problem !== undefined) reject(new Error(problem));
    });
  }

  /** Opens the reading end of an output. */
  openOutput(id: number, adopt = false): InboundStream {
    const stream = this.#peer.openOutput(id, adopt);
    if (stream === undefined) throw new Error(`stream ${id} cannot be opened`);
    return stream;
  }

  /** Opens the writing end of an input. */
  openInput(id: number, adopt = false): OutboundStream {
    const stream = this.#peer.openInput(id, adopt);
    if (stream === undefined) throw new Error(`stream ${id} cannot be opened`);
    return stream;
  }

  /** Starts a process; its streams are numbered here. */
  async exec(exec: string, args: readonly string[], options: ExecOptions = {}): Promise<Executed> {
    const terminal = options.terminal;
    const stdio: GuestStdio = {
      ...(options.stdin === true ? { stdin: this.newStream() } : {}),
      stdout: this.newStream(),
      ...(terminal === undefined ? { stderr: this.newStream() } : { terminal }),
    };
    const executed = {
      name: { container: "test", exec },
      stdout: this.openOutput(stdio.stdout ?? 0),
      stderr: stdio.stderr === undefined ? undefined : this.openOutput(stdio.stderr),
      stdin: stdio.stdin === undefined ? undefined : this.openInput(stdio.stdin),
      stdio,
      pid: 0,
    };
    const process = { args, env: ["PATH=/usr/bin:/bin", ...options.env ?? []] };
    const { pid } = await this.request("exec", { container: "test", exec, process, stdio });
    return { ...executed, pid };
  }

  /** Waits until the agent has told how a process ended. */
  async exitOf(exec: string): Promise<ProcessExit> {
    return await eventually(`the exit of "${exec}"`, () => this.findExit(exec));
  }

  /** How a process ended, if that was told. */
  findExit(exec: string): ProcessExit | undefined {
    for (const event of this.events) {
      if (event.kind === "exit" && event.exit.exec === exec) return event.exit;
    }
    return undefined;
  }

  /** Goes without a word. */
  [Symbol.dispose](): void {
    this.#peer.dispose("the test is over");
    this.cut();
    for (const id of this.#timers) clearTimeout(id);
  }
}

/** How to start a process. */
export interface ExecOptions {
  /** Whether it gets an input. */
  readonly stdin?: boolean;
  /** The size of its terminal, where it gets one. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
  /** More variables. */
  readonly env?: readonly string[];
}

/** A process that was started. */
export interface Executed {
  /** Its id on the machine that it runs on. */
  readonly pid: number;
  /** The ids of its streams. */
  readonly stdio: GuestStdio;
  /** Its input, where it has one. */
  readonly stdin: OutboundStream | undefined;
  /** Its output. */
  readonly stdout: InboundStream;
  /** Its error output; none with a terminal. */
  readonly stderr: InboundStream | undefined;
}

/** An error that the agent answered. */
export class AgentRefusal extends Error {
  /** The name shown in stack traces. */
  override readonly name = "AgentRefusal";

  /**
   * Makes an error.
   *
   * @param failure What the agent answered.
   */
  constructor(readonly failure: AgentFailure) {
    super(`${failure.code}: ${failure.message}`);
  }
}

/** Consumes a stream to its end; `pace` is awaited after each piece, with the bytes so far. */
export async function collect(
  stream: InboundStream,
  pace: (bytes: number) => Promise<void> = () => Promise.resolve(),
): Promise<Collected> {
  const pieces: Uint8Array[] = [];
  let total = 0;
  let wake = () => {};
  stream.onReadable = () => wake();
  for (;;) {
    const piece = stream.peek();
    if (piece !== undefined) {
      pieces.push(piece.slice());
      stream.consume(piece.byteLength);
      total += pieces.at(-1)?.byteLength ?? 0;
      await pace(total);
      continue;
    }
    if (stream.ended || stream.resetBy !== undefined) break;
    await new Promise<void>((resolve) => wake = resolve);
  }
  const bytes = new Uint8Array(await new Blob(pieces.map((piece) => piece.slice())).arrayBuffer());
  return { bytes, text: new TextDecoder().decode(bytes) };
}

/** Sends bytes on a stream as fast as it takes them; stops where it is reset. */
export async function send(stream: OutboundStream, bytes: Uint8Array): Promise<void> {
  let sent = 0;
  let wake = () => {};
  stream.onWritable = () => wake();
  stream.onClosed = () => wake();
  while (sent < bytes.byteLength && stream.resetBy === undefined) {
    const room = stream.reserve();
    if (room === undefined) {
      await new Promise<void>((resolve) => wake = resolve);
      continue;
    }
    const piece = bytes.subarray(sent, sent + room.byteLength);
    room.set(piece);
    stream.commit(piece.byteLength);
    sent += piece.byteLength;
  }
}

/** Waits until `found` answers something; fails after a minute. */
export async function eventually<T>(
  what: string,
  found: () => T | false | undefined | Promise<T | false | undefined>,
): Promise<T> {
  const deadline = performance.now() + WAIT_MS;
  while (performance.now() < deadline) {
    const value = await found();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`${what} did not come`);
}

/** A unix connection as a transport. */
class ConnectionTransport implements Transport {
  readonly #connection: Deno.UnixConn;
  #queue: Uint8Array[] = [];
  #writing = false;
  #sink: TransportSink | undefined;
  #closed = false;

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  async run(sink: TransportSink): Promise<void> {
    this.#sink = sink;
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const count = await this.#connection.read(buffer);
        if (count === null) break;
        sink.onBytes(buffer.subarray(0, count));
      }
    } catch {
      // Closed on this side.
    }
    if (!this.#closed) sink.onClosed("the connection has ended");
    this.#closed = true;
  }

  write(bytes: Uint8Array): boolean {
    this.#queue.push(bytes);
    void this.#flush();
    return this.#queue.length < 4;
  }

  async #flush(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    await Promise.resolve();
    try {
      for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
        for (let sent = 0; sent < bytes.byteLength;) {
          sent += await this.#connection.write(bytes.subarray(sent));
        }
      }
    } catch {
      this.#queue = [];
    }
    this.#writing = false;
    if (!this.#closed) this.#sink?.onDrain();
  }

  discard(): void {
    this.#queue = [];
  }

  close(): void {
    this.#closed = true;
    this.#connection.close();
  }
}
