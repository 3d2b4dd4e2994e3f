import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import { Controller } from "../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { GrpcClient } from "../proto/grpc.ts";
import { createRequest, MemoryDriver, NAMESPACE } from "./controller/fixture.ts";
import { noMounts } from "./lifecycle/mounter.ts";
import { Sandboxer } from "./lifecycle/sandboxer.ts";
import { MemoryStore } from "./lifecycle/store.ts";
import { noLog } from "./log.ts";
import { type ServeOptions, start } from "./serve.ts";

const { method } = Controller;

const NOOP = fileURLToPath(new URL("../bench/support/noop_main.ts", import.meta.url));
const FAULTY = fileURLToPath(new URL("./serve_faulty_main.ts", import.meta.url));
const CONFIG = fileURLToPath(new URL("../deno.json", import.meta.url));

/** A directory of its own, and the paths of a sandboxer in it. */
class Place implements AsyncDisposable {
  readonly listen: string;
  readonly taskListen: string;
  readonly dir: string;
  /** Where a stand-in for systemd listens. */
  readonly notify: string;

  private constructor(readonly root: string) {
    this.listen = `${root}/run/noop.sock`;
    this.taskListen = `${root}/run/noop-task.sock`;
    this.dir = `${root}/run/state`;
    this.notify = `${root}/notify.sock`;
  }

  static async make(): Promise<Place> {
    return new Place(await Deno.makeTempDir({ prefix: "serve-" }));
  }

  get flags(): string[] {
    return [
      `--listen=${this.listen}`,
      `--task-listen=${this.taskListen}`,
      `--dir=${this.dir}`,
      "--containerd-events=none",
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}

/** A sandboxer process with no more rights than it needs. */
class Process implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  /** Resolves with the exit code and everything that it wrote. */
  readonly ended: Promise<{ code: number; out: string; err: string }>;
  readonly #ready = Promise.withResolvers<void>();
  #err = "";

  constructor(
    place: Place,
    flags: readonly string[],
    { env = {}, program = NOOP }: { env?: Record<string, string>; program?: string } = {},
  ) {
    const sockets = [place.listen, place.taskListen, `${place.dir}/notify.sock`, place.notify];
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        `--config=${CONFIG}`,
        `--allow-net=${sockets.map((path) => `unix:${path}`).join(",")}`,
        `--allow-read=${place.root}`,
        `--allow-write=${place.root}`,
        "--allow-env=NOTIFY_SOCKET,WATCHDOG_USEC,WATCHDOG_PID",
        "--ignore-env",
        program,
        ...flags,
      ],
      env: { NO_COLOR: "1", ...env },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.ended = this.#follow();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Resolves when it says "ready"; rejects when it ends without. */
  async ready(): Promise<this> {
    const failed = this.ended.then(({ err }) => {
      throw new Error(`it ended without being ready: ${err}`);
    });
    await Promise.race([this.#ready.promise, failed]);
    return this;
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Resolves when something is in its log. */
  async wrote(line: RegExp): Promise<void> {
    while (!line.test(this.#err)) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  async #follow(): Promise<{ code: number; out: string; err: string }> {
    let out = "";
    const readLog = async () => {
      for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
        this.#err += text;
      }
    };
    const read = async () => {
      for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
        out += text;
        if (out === "ready\n") this.#ready.resolve();
      }
    };
    const [{ code }] = await Promise.all([this.#child.status, readLog(), read()]);
    return { code, out, err: this.#err };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.ended;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

async function runSandbox(client: GrpcClient, sandboxId: string): Promise<void> {
  await client.call(method.create, createRequest(sandboxId), { metadata: NAMESPACE });
  await client.call(method.start, { sandboxId }, { metadata: NAMESPACE });
}

async function stateOf(client: GrpcClient, sandboxId: string): Promise<string> {
  const options = { metadata: NAMESPACE };
  return (await client.call(method.status, { sandboxId }, options)).state;
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`serve() leaves gracefully on ${signal}: Waits are told to ask again`, async () => {
    await using place = await Place.make();
    await using process = await new Process(place, place.flags).ready();
    using client = new GrpcClient(place.listen);
    await runSandbox(client, "a1");
    const wait = client.call(method.wait, { sandboxId: "a1" }, { metadata: NAMESPACE });
    const told = assert.rejects(wait, { code: "Unavailable" });
    // A call after it on the same connection: the Wait has arrived when this is answered.
    assert.equal(await stateOf(client, "a1"), "SANDBOX_READY");
    process.kill(signal);
    await told;
    const { code, out, err } = await process.ended;
    assert.equal(code, 0, err);
    assert.equal(out, "ready\n");
    assert.match(err, new RegExp(`stopping signal=${signal}`));
    assert.equal(await exists(place.listen), false);
    assert.equal(await exists(place.taskListen), false);
  });
}

Deno.test("serve() takes over the sandboxes and the sockets of a process that was killed", async () => {
  await using place = await Place.make();
  {
    await using process = await new Process(place, place.flags).ready();
    using client = new GrpcClient(place.listen);
    await runSandbox(client, "a1");
    process.kill("SIGKILL");
    await process.ended;
  }
  assert.ok(await exists(place.listen), "a killed process leaves its socket");
  await using _second = await new Process(place, place.flags).ready();
  using client = new GrpcClient(place.listen);
  assert.equal(await stateOf(client, "a1"), "SANDBOX_READY");
});

Deno.test("serve() deletes a sandbox that nobody starts in time", async () => {
  await using place = await Place.make();
  await using _process = await new Process(place, [...place.flags, "--unstarted-max=1"]).ready();
  using client = new GrpcClient(place.listen);
  await runSandbox(client, "started");
  await client.call(method.create, createRequest("left"), { metadata: NAMESPACE });
  while (await stateOf(client, "left").then(() => true, () => false)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await assert.rejects(stateOf(client, "left"), /not found/);
  assert.equal(await stateOf(client, "started"), "SANDBOX_READY");
});

Deno.test("serve() makes its directories and sockets for this user alone", async () => {
  await using place = await Place.make();
  await using _process = await new Process(place, place.flags).ready();
  const mode = async (path: string) => ((await Deno.stat(path)).mode ?? 0) & 0o777;
  assert.equal(await mode(`${place.root}/run`), 0o700);
  assert.equal(await mode(place.dir), 0o700);
  assert.equal(await mode(place.listen), 0o600);
  assert.equal(await mode(place.taskListen), 0o600);
});

Deno.test("serve() refuses a socket on which another sandboxer listens, and disturbs nothing", async () => {
  await using place = await Place.make();
  await using _first = await new Process(place, place.flags).ready();
  using client = new GrpcClient(place.listen);
  await runSandbox(client, "a1");
  const other = `--dir=${place.root}/run/other`;
  for (const mine of ["--listen", "--task-listen"]) {
    const free = `${mine}=${place.root}/run/free.sock`;
    await using second = new Process(place, [...place.flags, other, free]);
    const { code, out, err } = await second.ended;
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.match(err, /another sandboxer is already listening on/);
  }
  assert.equal(await stateOf(client, "a1"), "SANDBOX_READY");
});

Deno.test("serve() waits for a socket that a killed process had for a moment longer", async () => {
  await using place = await Place.make();
  await Deno.mkdir(`${place.root}/run`, { recursive: true });
  const left = Deno.listen({ transport: "unix", path: place.listen });
  setTimeout(() => left.close(), 300);
  await using _process = await new Process(place, place.flags).ready();
});

Deno.test("serve() refuses a state directory that another sandboxer uses", async () => {
  await using place = await Place.make();
  await using _first = await new Process(place, place.flags).ready();
  const [listen, taskListen] = [`${place.root}/run/b.sock`, `${place.root}/run/bt.sock`];
  const flags = [`--listen=${listen}`, `--task-listen=${taskListen}`];
  await using second = new Process(place, [...place.flags, ...flags]);
  const { code, err } = await second.ended;
  assert.equal(code, 1);
  assert.match(err, /another sandboxer is using it/);
});

Deno.test("serve() leaves a file alone that is in the place of its socket", async () => {
  await using place = await Place.make();
  await Deno.mkdir(`${place.root}/run`);
  await Deno.writeTextFile(place.listen, "precious");
  await using process = new Process(place, place.flags);
  const { code, err } = await process.ended;
  assert.equal(code, 1);
  assert.match(err, /no socket/);
  assert.equal(await Deno.readTextFile(place.listen), "precious");
});

/** A stand-in for systemd: what it is told, in order. */
class Systemd implements Disposable {
  readonly #socket: Deno.DatagramConn;

  constructor(place: Place) {
    this.#socket = Deno.listenDatagram({ transport: "unixpacket", path: place.notify });
  }

  /** The next message; its lines. */
  async message(): Promise<string[]> {
    return new TextDecoder().decode((await this.#socket.receive())[0]).split("\n");
  }

  /** The next message with such a line; those before it do not count. */
  async until(line: string): Promise<string[]> {
    for (;;) {
      const lines = await this.message();
      if (lines.includes(line)) return lines;
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

Deno.test("serve() tells systemd what it is doing, when it is ready and when it stops", async () => {
  await using place = await Place.make();
  using systemd = new Systemd(place);
  await using process = new Process(place, place.flags, {
    env: { NOTIFY_SOCKET: place.notify },
  });
  assert.deepEqual(await systemd.message(), ["EXTEND_TIMEOUT_USEC=30000000"]);
  assert.match((await systemd.message()).join(), /^STATUS=taking over/);
  assert.deepEqual(await systemd.message(), ["READY=1", "STATUS=ready; took over 0 sandboxes"]);
  using client = new GrpcClient(place.listen);
  await runSandbox(client, "a1");
  process.kill("SIGTERM");
  assert.deepEqual(await systemd.message(), ["STOPPING=1", "STATUS=stopping"]);
  assert.equal((await process.ended).code, 0);
  assert.equal(await exists(`${place.dir}/notify.sock`), false);
});

Deno.test("serve() gives systemd's watchdog signs of life, as long as its event loop turns", async () => {
  await using place = await Place.make();
  using systemd = new Systemd(place);
  await using process = new Process(place, place.flags, {
    env: { NOTIFY_SOCKET: place.notify, WATCHDOG_USEC: "400000" },
  });
  await systemd.until("READY=1");
  for (let signs = 0; signs < 3; signs++) {
    assert.deepEqual(await systemd.message(), ["WATCHDOG=1"]);
  }
  process.kill("SIGSTOP");
  const silence = new Promise<string>((resolve) => setTimeout(() => resolve("silence"), 800));
  // One may have been on its way.
  let heard = 0;
  const listening = (async () => {
    for (;;) {
      await systemd.until("WATCHDOG=1");
      heard++;
    }
  })().catch(() => undefined);
  assert.equal(await Promise.race([silence, listening]), "silence");
  assert.ok(heard <= 1, `${heard} signs of life of a process that stands still`);
  process.kill("SIGCONT");
  while (heard < 2) await new Promise((resolve) => setTimeout(resolve, 20));
});

Deno.test("serve() leaves the watchdog of another process alone", async () => {
  await using place = await Place.make();
  using systemd = new Systemd(place);
  await using process = new Process(place, place.flags, {
    env: { NOTIFY_SOCKET: place.notify, WATCHDOG_USEC: "200000", WATCHDOG_PID: "1" },
  });
  await systemd.until("READY=1");
  await new Promise((resolve) => setTimeout(resolve, 400));
  process.kill("SIGTERM");
  assert.deepEqual(await systemd.message(), ["STOPPING=1", "STATUS=stopping"]);
});

Deno.test("serve() lets a call finish that is under way, and tells how it goes", async () => {
  await using place = await Place.make();
  using systemd = new Systemd(place);
  await using process = new Process(place, ["slow", ...place.flags], {
    program: FAULTY,
    env: { NOTIFY_SOCKET: place.notify },
  });
  await process.ready();
  using client = new GrpcClient(place.listen);
  const created = client.call(method.create, createRequest("a1"), { metadata: NAMESPACE });
  // A call after it on the same connection: it has arrived when this is answered.
  await assert.rejects(client.call(method.status, { sandboxId: "b" }, { metadata: NAMESPACE }));
  process.kill("SIGTERM");
  assert.equal((await created).sandboxId, "a1");
  await systemd.until("STATUS=stopping; waiting for 1 operations");
  const { code, err } = await process.ended;
  assert.equal(code, 0);
  assert.match(err, /waiting for what is under way operations=1/);
  assert.doesNotMatch(err, /unfinished|could not be undone/);
});

Deno.test("serve() serves on where systemd cannot be told", async () => {
  await using place = await Place.make();
  const env = { NOTIFY_SOCKET: `${place.root}/nobody.sock` };
  await using process = await new Process(place, place.flags, { env }).ready();
  using client = new GrpcClient(place.listen);
  await runSandbox(client, "a1");
  process.kill("SIGTERM");
  const { code, err } = await process.ended;
  assert.equal(code, 0);
  assert.match(err, /cannot notify systemd/);
});

Deno.test("the command line: --help and --version exit with 0, a bad flag with 2", async () => {
  await using place = await Place.make();
  await using help = new Process(place, ["--help"]);
  await using version = new Process(place, ["--version"]);
  await using bad = new Process(place, ["--lisen=/a.sock"]);
  assert.deepEqual([(await help.ended).code, (await version.ended).code], [0, 0]);
  assert.match((await help.ended).out, /--listen PATH/);
  assert.match((await version.ended).out, /^quasaur-noop \d/);
  const { code, err } = await bad.ended;
  assert.equal(code, 2);
  assert.match(err, /--lisen/);
});

/** A sandboxer with a fault. */
function faulty(place: Place, fault: string): Process {
  return new Process(place, [fault, ...place.flags], { program: FAULTY });
}

Deno.test("serve() survives errors that nobody handles, and logs them", async () => {
  await using place = await Place.make();
  await using process = await faulty(place, "stray").ready();
  using client = new GrpcClient(place.listen);
  await runSandbox(client, "a1");
  process.kill("SIGTERM");
  const { code, err } = await process.ended;
  assert.equal(code, 0);
  assert.match(err, /ERROR.*stray rejection/);
  assert.match(err, /ERROR.*stray exception/);
});

Deno.test("serve() leaves on a signal also while it recovers", async () => {
  await using place = await Place.make();
  await using process = faulty(place, "endless");
  while (!(await exists(`${place.dir}/lock`))) await new Promise((next) => setTimeout(next, 10));
  process.kill("SIGTERM");
  const { code, out } = await process.ended;
  assert.deepEqual({ code, out }, { code: 0, out: "" });
});

Deno.test("serve() leaves in the end, whatever hangs, and soon when it is told twice", async () => {
  await using place = await Place.make();
  await using process = await new Process(place, ["stuck", ...place.flags, "--drain=300"], {
    program: FAULTY,
  }).ready();
  using client = new GrpcClient(place.listen);
  const created = client.call(method.create, createRequest("a1"), { metadata: NAMESPACE });
  const failed = assert.rejects(created);
  await assert.rejects(client.call(method.status, { sandboxId: "b" }, { metadata: NAMESPACE }));
  process.kill("SIGTERM");
  await process.wrote(/waiting for what is under way/);
  process.kill("SIGTERM");
  // It would have waited for five minutes.
  const { code, err } = await process.ended;
  assert.equal(code, 0);
  assert.match(err, /leaving with work unfinished/);
  await failed;
});

/** What start() needs, in this process. */
function optionsFor(place: Place, store: MemoryStore): ServeOptions {
  const sandboxer = new Sandboxer({ driver: new MemoryDriver(), store, mounter: noMounts });
  const { listen, taskListen, dir } = place;
  return {
    sandboxer,
    listen,
    taskListen,
    dir,
    containerdEvents: undefined,
    unstartedSecondsMax: 0,
    log: noLog,
  };
}

Deno.test("start() recovers before anybody can call", async () => {
  await using place = await Place.make();
  const seen: boolean[] = [];
  class WatchingStore extends MemoryStore {
    override async load(): ReturnType<MemoryStore["load"]> {
      seen.push(await exists(place.listen), await exists(place.taskListen));
      return await super.load();
    }
  }
  const serving = await start(optionsFor(place, new WatchingStore()));
  assert.deepEqual(seen, [false, false]);
  assert.ok(await exists(place.listen));
  await serving.stop();
});

Deno.test("start() that fails leaves no socket and gives the directory back", async () => {
  await using place = await Place.make();
  class BrokenStore extends MemoryStore {
    override load(): ReturnType<MemoryStore["load"]> {
      return Promise.reject(new Error("the disk is gone"));
    }
  }
  await assert.rejects(start(optionsFor(place, new BrokenStore())), /the disk is gone/);
  assert.equal(await exists(place.listen), false);
  const serving = await start(optionsFor(place, new MemoryStore()));
  await serving.stop();
});

/** Enough ended calls on one connection for a GOAWAY to do harm where it comes through. */
const CALLS_BEFORE_GOODBYE = 2000;

async function callOften(client: GrpcClient, sandboxId: string): Promise<void> {
  for (let calls = 0; calls < CALLS_BEFORE_GOODBYE; calls += 20) {
    await Promise.all(Array.from({ length: 20 }, () => stateOf(client, sandboxId)));
  }
}

Deno.test("serve() goes on when clients that called often say goodbye", async () => {
  await using place = await Place.make();
  await using process = await new Process(place, place.flags).ready();
  for (let clients = 0; clients < 3; clients++) {
    using client = new GrpcClient(place.listen);
    if (clients === 0) await runSandbox(client, "sb");
    await callOften(client, "sb");
  }
  using client = new GrpcClient(place.listen);
  assert.equal(await stateOf(client, "sb"), "SANDBOX_READY");
  await callOften(client, "sb");
  process.kill("SIGTERM");
  assert.deepEqual(await process.ended.then(({ code, out }) => ({ code, out })), {
    code: 0,
    out: "ready\n",
  });
});
