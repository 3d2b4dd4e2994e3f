/**
 * A driver whose programs are a few words of this file, run on the streams that they are given: for
 * tests of what is above drivers, without any machine.
 *
 * @module
 */

import type {
  Capabilities,
  ContainerHandle,
  Driver,
  ProcessHandle,
  SandboxHandle,
} from "../../lifecycle/driver.ts";
import type { SandboxError } from "../../lifecycle/errors.ts";
import type {
  ContainerSpec,
  Exit,
  ProcessSpec,
  SandboxSpec,
  Stats,
  StdioSpec,
  StreamSpec,
} from "../../lifecycle/spec.ts";

const SIGKILL = 9;
const NOTHING: Stats = { at: 0, cpuNs: 0, memoryBytes: 0, pids: 0 };

/** A process that was started. */
export class ScriptProcess implements ProcessHandle {
  /** See {@link ProcessHandle.pid}. */
  readonly pid = 7;
  /** Signals that it got. */
  readonly signals: number[] = [];
  /** Sizes that its terminal got. */
  readonly sizes: (readonly [number, number])[] = [];
  /** Settles when it was killed. */
  readonly killed: Promise<Exit>;
  readonly #killed = Promise.withResolvers<Exit>();
  /** See {@link ProcessHandle.exited}. */
  readonly exited: Promise<Exit>;

  /** Runs it. */
  constructor(readonly spec: ProcessSpec, readonly stdio: StdioSpec) {
    this.killed = this.#killed.promise;
    this.exited = Promise.race([runScript(this), this.killed]).finally(() => close(stdio));
  }

  /** Takes note of the signal; every signal ends it. */
  kill(signal: number): Promise<void> {
    this.signals.push(signal);
    this.#killed.resolve({ status: 128 + signal, at: Date.now(), reason: "signaled" });
    return Promise.resolve();
  }

  /** Takes note of the size. */
  resize(columns: number, rows: number): Promise<void> {
    this.sizes.push([columns, rows]);
    return Promise.resolve();
  }

  /** Does nothing. */
  closeStdin(): Promise<void> {
    return Promise.resolve();
  }
}

/** Closes what the driver has taken over. */
async function close({ stdout, stderr }: StdioSpec): Promise<void> {
  for (const stream of [stdout, stderr]) {
    if (stream.kind === "writable") await stream.writable.close().catch(() => undefined);
  }
}

/** `echo`, `complain` (on standard error), `cat`, `exit`, `sleep`, `flood` (bytes), `oom`. */
async function runScript({ spec, stdio, killed }: ScriptProcess): Promise<Exit> {
  const [name = "", ...words] = spec.args;
  const exit = (status: number, reason: Exit["reason"] = "exited"): Exit => ({
    status,
    at: Date.now(),
    reason,
    ...(reason === "oom" ? { message: "the container ran out of memory" } : {}),
  });
  switch (name) {
    case "echo":
      await write(stdio.stdout, `${words.join(" ")}\n`);
      return exit(0);
    case "complain":
      await write(stdio.stderr, `${words.join(" ")}\n`);
      return exit(0);
    case "cat":
      if (stdio.stdin.kind !== "readable" || stdio.stdout.kind !== "writable") return exit(1);
      await stdio.stdin.readable.pipeTo(stdio.stdout.writable, { preventClose: true });
      return exit(0);
    case "flood":
      for (let left = Number(words[0]); left > 0; left -= 1000) {
        await write(stdio.stdout, "x".repeat(Math.min(left, 1000)));
      }
      return exit(0);
    case "sleep":
      return await killed;
    case "oom":
      return exit(137, "oom");
    default:
      return exit(Number(words[0] ?? 0));
  }
}

async function write(to: StreamSpec, text: string): Promise<void> {
  if (to.kind !== "writable") return;
  const writer = to.writable.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
  } finally {
    writer.releaseLock();
  }
}

/** Runs scripts. */
export class ScriptDriver implements Driver {
  /** See {@link Driver.kind}. */
  readonly kind = "vmm";
  /** See {@link Driver.capabilities}. */
  readonly capabilities: Capabilities = {
    exec: true,
    pause: true,
    updateContainer: true,
    updateSandbox: true,
    terminal: true,
  };
  /** Sandboxes that were asked for. */
  readonly sandboxes: SandboxSpec[] = [];
  /** Containers that were asked for. */
  readonly containers: ContainerSpec[] = [];
  /** Processes that were started, in that order. */
  readonly processes: ScriptProcess[] = [];
  /** What was done to containers and sandboxes, such as `pause a`. */
  readonly deeds: string[] = [];
  /** Set to fail every start. */
  failure: SandboxError | undefined;

  /** See {@link Driver.start}. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    this.sandboxes.push(spec);
    if (this.failure !== undefined) throw this.failure;
    // A start that takes until it is given up.
    if (spec.hostname === "slow") {
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      signal.throwIfAborted();
    }
    const exit = Promise.withResolvers<Exit>();
    return {
      pid: 1,
      record: null,
      exited: exit.promise,
      createContainer: (container) => Promise.resolve(this.#container(container)),
      stats: () => Promise.resolve({ ...NOTHING, memoryBytes: 1 }),
      stop: async () => {
        this.deeds.push("stop");
        await Promise.all(this.processes.map((process) => process.kill(SIGKILL)));
        exit.resolve({ status: 0, at: Date.now(), reason: "exited" });
      },
    };
  }

  /** Knows nothing of earlier processes. */
  adopt(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  #container(spec: ContainerSpec): ContainerHandle {
    this.containers.push(spec);
    const note = (deed: string): Promise<void> => {
      this.deeds.push(`${deed} ${spec.id}`);
      return Promise.resolve();
    };
    return {
      record: null,
      start: () => Promise.resolve(this.#process(spec.process, spec.stdio)),
      exec: (exec) => Promise.resolve(this.#process(exec.process, exec.stdio)),
      pause: () => note("pause"),
      resume: () => note("resume"),
      pids: () => Promise.resolve([]),
      stats: () => Promise.resolve(NOTHING),
      delete: () => note("delete"),
    };
  }

  #process(spec: ProcessSpec, stdio: StdioSpec): ScriptProcess {
    const process = new ScriptProcess(spec, stdio);
    this.processes.push(process);
    return process;
  }
}
