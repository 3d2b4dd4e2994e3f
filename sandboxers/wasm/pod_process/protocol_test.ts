import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { decodeHello, encodeHello, HELLO_BYTES, PROTOCOL_VERSION } from "./hello.ts";
import { parseAnswer, parseMessage, parseStarted, type PodMessage } from "./protocol.ts";

const EXIT = { status: 137, at: 1_700_000_000_000, reason: "signaled", message: "gone" } as const;

const MESSAGES: readonly PodMessage[] = [
  {
    kind: "state",
    containers: [{ id: "c", paused: true }],
    processes: [{ container: "c", execId: "", process: 1, pid: 42, exit: EXIT }],
    lastProcess: 7,
  },
  { kind: "answer", id: 1, value: null },
  { kind: "refusal", id: 1, error: { code: "NotFound", message: "not there" } },
  { kind: "exit", process: 3, exit: EXIT },
  { kind: "find", id: 2, digest: "0".repeat(64) },
  { kind: "compile", digest: "f".repeat(64) },
  { kind: "reject", digest: "a".repeat(64) },
  { kind: "log", level: "warn", message: "hm", fields: { a: 1 } },
];

Deno.test("messages of a pod process are read as they were sent", () => {
  for (const message of MESSAGES) {
    assert.deepEqual(parseMessage(JSON.parse(JSON.stringify(message))), message);
  }
});

Deno.test("a field of another type, or out of its bounds, is refused", () => {
  const wrong: unknown[] = [
    ...[null, 1, "state", [], {}, { kind: "call" }, { kind: "answer", id: -1 }],
    ...[{ kind: "answer", id: 1.5 }, { kind: "answer", id: "1" }, { kind: "answer", id: 1e300 }],
    { kind: "exit", process: 1, exit: { ...EXIT, status: 256 } },
    { kind: "exit", process: 1, exit: { ...EXIT, status: -1 } },
    { kind: "exit", process: 1, exit: { ...EXIT, reason: "bored" } },
    { kind: "refusal", id: 1, error: { code: "toString", message: "" } },
    { kind: "find", id: 1, digest: "../../etc/passwd" },
    { kind: "compile", digest: "F".repeat(64) },
    { kind: "state", containers: {}, processes: [], lastProcess: 0 },
    { kind: "log", level: "warn", message: 1, fields: {} },
  ];
  for (const value of wrong) {
    assert.throws(() => parseMessage(value), (error) => {
      return error instanceof SandboxError && error.code === "InvalidArgument";
    }, JSON.stringify(value));
  }
});

Deno.test("texts are cut, so that nobody has to keep long ones", () => {
  const message = "x".repeat(1_000_000);
  const parsed = parseMessage({ kind: "exit", process: 1, exit: { ...EXIT, message } });
  assert.ok(parsed.kind === "exit" && (parsed.exit.message?.length ?? 0) <= 4_096);
});

Deno.test("messages with random parts are read or refused, and nothing else happens", () => {
  let seed = 4711;
  const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const values = [null, true, -1, 0, 1, 1e308, "", "x", [], {}, [{}], { kind: "exit" }, EXIT];
  for (let i = 0; i < 20_000; i++) {
    const message: Record<string, unknown> = { ...MESSAGES[random(MESSAGES.length)] };
    const names = Object.keys(message);
    for (let changes = 1 + random(3); changes > 0; changes--) {
      message[names[random(names.length)] ?? "kind"] = values[random(values.length)];
    }
    try {
      parseMessage(message);
    } catch (error) {
      assert.ok(error instanceof SandboxError, String(error));
    }
  }
});

Deno.test("answers are checked by what was asked", () => {
  assert.equal(parseAnswer("start", 42), 42);
  assert.equal(parseAnswer("kill", { anything: 1 }), null);
  assert.deepEqual(parseAnswer("pids", [1, 2]), [1, 2]);
  const stats = { at: 1, cpuNs: 2.5, memoryBytes: 3, memoryPages: 0, pids: 1 };
  assert.deepEqual(parseAnswer("stats", { ...stats, more: "x" }), stats);
  for (const [call, value] of [["start", "1"], ["pids", [-1]], ["stats", { at: 1 }]] as const) {
    assert.throws(() => parseAnswer(call, value), SandboxError);
  }
});

Deno.test("the first line of a process says that it is ready, or why not", () => {
  assert.deepEqual(parseStarted('{"ready":true}'), { ready: true });
  const error = { code: "InvalidArgument", message: "no" } as const;
  assert.deepEqual(parseStarted(JSON.stringify({ ready: false, error })), { ready: false, error });
  for (const line of ["", "ready", "{}", '{"ready":false}']) {
    assert.throws(() => parseStarted(line), SandboxError);
  }
});

Deno.test("a greeting is told from anything else", () => {
  for (const kind of ["control", "descriptors"] as const) {
    const hello = { version: PROTOCOL_VERSION, kind, ticket: 4_000_000_000 };
    assert.deepEqual(decodeHello(encodeHello(hello)), hello);
  }
  const good = encodeHello({ version: 1, kind: "control", ticket: 0 });
  assert.equal(decodeHello(good.subarray(1)), undefined);
  assert.equal(decodeHello(new Uint8Array(HELLO_BYTES)), undefined);
  const otherKind = good.slice();
  otherKind[16] = 9;
  assert.equal(decodeHello(otherKind), undefined);
});
