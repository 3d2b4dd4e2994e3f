import assert from "node:assert/strict";
import { Gate } from "../../host/gate.ts";
import { assertFails } from "../../host/testing/fixture.ts";
import { type ErrorCode, SandboxError } from "../../lifecycle/errors.ts";
import { SentryControl } from "./control.ts";

/** A call, as the fake sandbox heard it. */
interface Heard {
  readonly method: string;
  readonly arg: unknown;
}

/** Answers with text; undefined for no answer, and the connection stays open. */
type Answer = (heard: Heard) => string | undefined;

/** A fake sandbox at a socket. */
class FakeSentry implements AsyncDisposable {
  readonly heard: Heard[] = [];
  /** Connections that are open. */
  open = 0;
  readonly #listener: Deno.UnixListener;
  readonly #serving: Promise<void>;
  readonly #connections = new Set<Deno.UnixConn>();

  constructor(readonly directory: string, readonly answer: Answer) {
    this.#listener = Deno.listen({ transport: "unix", path: this.path });
    this.#serving = this.#serve();
  }

  static async make(answer: Answer): Promise<FakeSentry> {
    return new FakeSentry(await Deno.makeTempDir({ prefix: "quasaur-sentry-" }), answer);
  }

  get path(): string {
    return `${this.directory}/runsc-sandbox.sock`;
  }

  get control(): SentryControl {
    return new SentryControl(this.path, new Gate(`${this.directory}/gate`).connect);
  }

  async #serve(): Promise<void> {
    const talks: Promise<void>[] = [];
    for await (const connection of this.#listener) talks.push(this.#talk(connection));
    await Promise.all(talks);
  }

  async #talk(connection: Deno.UnixConn): Promise<void> {
    this.open++;
    this.#connections.add(connection);
    try {
      const buffer = new Uint8Array(65_536);
      for (;;) {
        const count = await connection.read(buffer);
        if (count === null) break;
        const heard = JSON.parse(new TextDecoder().decode(buffer.subarray(0, count)));
        this.heard.push(heard);
        const text = this.answer(heard);
        if (text === undefined) continue;
        await connection.write(new TextEncoder().encode(text));
        if (!text.endsWith("}")) break;
      }
    } catch {
      // The other side has gone.
    } finally {
      this.open--;
      this.#connections.delete(connection);
      try {
        connection.close();
      } catch {
        // It was.
      }
    }
  }

  /** The sandbox ends: nobody serves any more. */
  async end(): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    await this.#serving;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.end();
    } catch {
      // It has ended.
    }
    await Deno.remove(this.directory, { recursive: true });
  }
}

function result(value: unknown): string {
  return JSON.stringify({ success: true, err: "", result: value });
}

function failure(err: string): string {
  return JSON.stringify({ success: false, err, result: null });
}

/** What runsc 20240729.0 answers to calls without effect. */
const probed: Answer = ({ method }) =>
  ({
    "containerManager.WaitPID": failure("PID (0) must be positive"),
    "containerManager.Signal": failure("PID (-1) must be positive"),
    "containerManager.Wait": failure('container "" not found'),
  })[method];

const never = new AbortController().signal;

Deno.test("sentry control: finds that a sandbox speaks as expected, and leaves no connection", async () => {
  await using sentry = await FakeSentry.make(probed);
  const control = await SentryControl.connect(sentry.path, new Gate(`${sentry.path}.g`).connect);
  assert.equal(control.path, sentry.path);
  assert.equal(sentry.heard.length, 3);
  await settled(() => sentry.open === 0);
});

Deno.test("sentry control: a runsc that speaks otherwise is Unimplemented", async () => {
  const others: readonly (readonly [string, Answer])[] = [
    ["no such method", () => failure("unknown method")],
    ["other words", () => failure("bad argument")],
    ["a result", () => result(0)],
    ["other members", () => '{"ok":true}'],
    ["no JSON", () => "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ["broken JSON", () => '{"success":tru}'],
    ["more than an answer", () => `${result(null)}{}`],
  ];
  for (const [name, answer] of others) {
    await using sentry = await FakeSentry.make(answer);
    await assertFails(
      sentry.control.probe(),
      "Unimplemented",
      /^cannot use the control socket ".*": /,
    ).catch((error) => assert.fail(`${name}: ${error}`));
  }
});

Deno.test("sentry control: says how a process has ended", async () => {
  const statuses: Record<string, number> = { a: 0, b: 5 << 8, c: 9, d: 15 | 0x80, e: 255 << 8 };
  await using sentry = await FakeSentry.make(({ method, arg }) =>
    method.endsWith("WaitPID") ? result(7 << 8) : result(statuses[String(arg)])
  );
  const { control } = sentry;
  assert.deepEqual(await control.wait("a", never), { status: 0 });
  assert.deepEqual(await control.wait("b", never), { status: 5 });
  assert.deepEqual(await control.wait("c", never), { status: 137, signal: 9 });
  assert.deepEqual(await control.wait("d", never), { status: 143, signal: 15 });
  assert.deepEqual(await control.wait("e", never), { status: 255 });
  assert.deepEqual(await control.waitPid("a", 12, never), { status: 7 });
  assert.deepEqual(sentry.heard.at(-1)?.arg, { PID: 12, CID: "a" });
});

Deno.test("sentry control: sends signals to whom they are for", async () => {
  await using sentry = await FakeSentry.make(() => result({}));
  const { control } = sentry;
  await control.signal("a", 15, "init");
  await control.signal("a", 9, "all");
  await control.signal("a", 1, { pid: 12 });
  await control.signal("a", 28, { foregroundOf: 13 });
  assert.deepEqual(sentry.heard.map(({ arg }) => arg), [
    { CID: "a", Signo: 15, PID: 0, Mode: 0 },
    { CID: "a", Signo: 9, PID: 0, Mode: 1 },
    { CID: "a", Signo: 1, PID: 12, Mode: 0 },
    { CID: "a", Signo: 28, PID: 13, Mode: 2 },
  ]);
});

Deno.test("sentry control: reads processes and what a container uses", async () => {
  const process = { uid: 0, pid: 3, ppid: 1, threads: [3, 4], c: 0, tty: "?", cmd: "caf\u00e9" };
  const event = (cpu: object, usage?: object) => ({
    event: {
      type: "stats",
      id: "a",
      data: { cpu, memory: { usage: { usage: 4096 } }, pids: { current: 2 } },
    },
    containerUsage: usage ?? null,
  });
  const answers: Record<string, unknown> = {
    list: [process],
    none: null,
    own: event({ usage: { total: 11 } }),
    table: event({ usage: {} }, { table: 22, other: 33 }),
    idle: { event: { data: { cpu: {}, memory: {}, pids: {} } }, containerUsage: null },
  };
  await using sentry = await FakeSentry.make(({ arg }) => result(answers[String(arg)]));
  const { control } = sentry;
  assert.deepEqual(await control.processes("list"), [
    { pid: 3, parent: 1, threads: [3, 4], command: "caf\u00e9" },
  ]);
  assert.deepEqual(await control.processes("none"), []);
  assert.deepEqual(await control.stats("own"), { cpuNs: 11, memoryBytes: 4096, pids: 2 });
  assert.deepEqual(await control.stats("table"), { cpuNs: 22, memoryBytes: 4096, pids: 2 });
  assert.deepEqual(await control.stats("idle"), { cpuNs: 0, memoryBytes: 0, pids: 0 });
  await assertFails(control.processes("own"), "Unimplemented", /expected a result as runsc/);
  await assertFails(control.stats("list"), "Unimplemented", /the sandbox answered \[/);
  await assertFails(control.state("list"), "Unimplemented", /cannot look at container "list"/);
});

Deno.test("sentry control: what the sandbox says of a failure has a code", async () => {
  const cases: readonly (readonly [string, ErrorCode])[] = [
    ['container "a" not found', "NotFound"],
    ['signaling process in container "a" PID 0: no such process', "NotFound"],
    ['container "a" not started', "FailedPrecondition"],
    ['container "a" has stopped', "FailedPrecondition"],
    ["unknown method", "Unimplemented"],
    ["something else", "Internal"],
  ];
  for (const [words, code] of cases) {
    await using sentry = await FakeSentry.make(() => failure(words));
    const { control } = sentry;
    const expected = new RegExp(`^cannot wait for container "a": ${words}$`);
    await assertFails(control.wait("a", never), code, expected);
  }
});

Deno.test("sentry control: a wait that is given up is closed, and others go on", async () => {
  await using sentry = await FakeSentry.make(() => undefined);
  const { control } = sentry;
  const giveUp = new AbortController();
  const one = control.wait("a", giveUp.signal);
  const other = control.wait("b", never);
  await settled(() => sentry.heard.length === 2);
  giveUp.abort();
  await assertFails(one, "Cancelled", /^cannot wait for container "a": cancelled/);
  await settled(() => sentry.open === 1);
  // The end of the sandbox is heard by who still waits.
  await Promise.all([
    assertFails(other, "Unavailable", /^cannot wait for container "b": the sandbox has ended$/),
    sentry.end(),
  ]);
  await assertFails(control.wait("a", never), "Unavailable", /: the sandbox has ended$/);
  const aborted = AbortSignal.abort();
  await assertFails(control.wait("a", aborted), "Cancelled", /cancelled/);
});

Deno.test("sentry control: only a sandbox that is gone counts as ended", async () => {
  const path = await Deno.makeTempFile();
  const control = (connect: () => Promise<Deno.UnixConn>) => new SentryControl(path, connect);
  const refused = () => Promise.reject(new Deno.errors.ConnectionRefused("refused"));
  await assertFails(control(refused).pause(), "Unavailable", /the sandbox has ended$/);
  const slow = () => Promise.reject(new SandboxError("Unavailable", "nobody accepts"));
  await assertFails(control(slow).pause(), "DeadlineExceeded", /^cannot pause.*nobody accepts$/);
  const file = new Gate(`${path}.gate`).connect;
  await assertFails(control(() => file(path)).pause(), "FailedPrecondition", /it is no socket$/);
  await Deno.remove(path);
});

Deno.test("sentry control: bounds what it reads, and fails clearly on any bytes", async () => {
  let state = 1;
  const random = () => state = (state * 48_271) % 2_147_483_647;
  const texts = [
    `{"success":true,"result":"${"x".repeat(5 << 20)}`,
    '{"success":true,"err":"","result":',
    "\0\0\0\0",
    ...Array.from({ length: 60 }, () => {
      const characters = '{}[]":,truefalsnl019\\ \u00fc';
      const length = random() % 40;
      const letters = Array.from({ length }, () => characters.charAt(random() % characters.length));
      return `{"success":${letters.join("")}\n`;
    }),
  ];
  for (const text of texts) {
    await using sentry = await FakeSentry.make(() => text);
    const error = await sentry.control.state("a").then(() => assert.fail(text), (thrown) => thrown);
    assert.ok(error instanceof SandboxError, `${error}`);
    assert.match(error.message, /^cannot look at container "a": /);
    assert.ok(["Unimplemented", "Unavailable", "Internal"].includes(error.code), error.message);
  }
});

/** Waits until something holds. */
async function settled(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await new Promise((done) => setTimeout(done, 5));
  assert.ok(holds());
}
