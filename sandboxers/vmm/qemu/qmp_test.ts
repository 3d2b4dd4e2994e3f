import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { QmpClient, type QmpOptions, QmpRefusal } from "./qmp.ts";
import type { QmpEvent } from "./qmp_events.ts";
import { FakeQemu, GREETING } from "./testing/fake_qemu.ts";

async function open(options: QmpOptions = {}) {
  const qemu = new FakeQemu();
  qemu.say(GREETING);
  const client = await QmpClient.open(qemu.connection, { timeoutMs: 2_000, ...options });
  return { qemu, client, [Symbol.dispose]: () => client.close() };
}

function failsWith(code: string, message: RegExp) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof SandboxError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  };
}

Deno.test("open waits for the greeting and enters command mode", async () => {
  using held = await open();
  assert.deepEqual(held.qemu.heard, ["qmp_capabilities"]);
});

Deno.test("execute gives the checked result, whatever the order of answers", async () => {
  using held = await open();
  const { qemu, client } = held;
  const ids: number[] = [];
  qemu.answers = (_, id) => void ids.push(id);
  const first = client.execute("query-status", {});
  const second = client.execute("query-status", {});
  while (ids.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  qemu.say(`{"return":{"status":"paused","running":false},"id":${ids[1]}}\r\n{"return":{"status":`);
  qemu.say(`"running","running":true,"more":[1]},"id":${ids[0]}}\n`);
  assert.deepEqual(await first, { status: "running", running: true });
  assert.deepEqual(await second, { status: "paused", running: false });
});

Deno.test("a refusal carries QEMU's words", async () => {
  using held = await open();
  held.qemu.answers = (_, id) =>
    `{"error":{"class":"DeviceNotFound","desc":"Device 'x' not found"},"id":${id}}\n`;
  await assert.rejects(held.client.execute("device_del", { id: "x" }), (thrown) => {
    assert.ok(thrown instanceof QmpRefusal);
    assert.equal(thrown.kind, "DeviceNotFound");
    assert.match(thrown.message, /"device_del": Device 'x' not found/);
    return true;
  });
});

Deno.test("events that are used are told, others are not", async () => {
  const events: QmpEvent[] = [];
  using held = await open({ onEvent: (event) => events.push(event) });
  held.qemu.say('{"event":"RTC_CHANGE","data":{"offset":1}}\n{"event":"STOP"}\n');
  held.qemu.say('{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-panic"}}\n');
  held.qemu.say('{"event":"SHUTDOWN","data":[]}\n{"event":"DEVICE_DELETED","data":{"path":7}}\n');
  await held.client.execute("stop", {});
  assert.deepEqual(events, [
    { kind: "STOP" },
    { kind: "SHUTDOWN", reason: "guest-panic" },
    { kind: "SHUTDOWN", reason: "other" },
    { kind: "DEVICE_DELETED", device: "" },
  ]);
});

Deno.test("an answer that is not what the command answers is refused", async () => {
  const answers = ["7", "null", "[]", '{"status":7}', '{"running":true}', '"running"'];
  using held = await open();
  for (const answer of answers) {
    held.qemu.answers = (_, id) => `{"return":${answer},"id":${id}}\n`;
    const failed = failsWith("Unavailable", /cannot read QEMU's answer to "query-status"|expected/);
    await assert.rejects(held.client.execute("query-status", {}), failed);
  }
  for (const answer of ["{}", '[{"data":{"size":-1}}]', '[{"data":{"size":1e99}}]', "[[]]"]) {
    held.qemu.answers = (_, id) => `{"return":${answer},"id":${id}}\n`;
    await assert.rejects(
      held.client.execute("query-memory-devices", {}),
      failsWith("Unavailable", /expected/),
    );
  }
});

Deno.test("what is no QMP ends the connection with a reason", async (t) => {
  const cases = [
    ["text", "Welcome to QEMU\n", /not QMP: "Welcome to QEMU"/],
    ["a list", "[1]\n", /not QMP/],
    ["an answer that was not asked for", '{"return":{},"id":99}\n', /not QMP/],
    ["an answer without an id", '{"return":{}}\n', /not QMP/],
    ["an error without a text", '{"error":{"class":7},"id":2}\n', /not QMP/],
    ["an object without a meaning", '{"hello":1}\n', /not QMP/],
    ["a line that is too long", "x".repeat(3000), /longer than 2000 bytes/],
    ["nothing more", "", /closed its control connection/],
  ] as const;
  for (const [name, text, message] of cases) {
    await t.step(name, async () => {
      using held = await open({ lineBytesMax: 2000 });
      held.qemu.answers = () => undefined;
      const waiting = held.client.execute("query-status", {});
      if (text === "") held.qemu.end();
      else held.qemu.say(text);
      await assert.rejects(waiting, failsWith("Unavailable", message));
      const failure = await held.client.closed;
      assert.match(failure?.message ?? "", message);
      assert.ok(held.qemu.closed);
      await assert.rejects(
        held.client.execute("cont", {}),
        failsWith("Unavailable", /cannot send the command "cont"/),
      );
    });
  }
});

Deno.test("open gives up on what does not greet, and closes the connection", async (t) => {
  const greets = [
    ["silence", "", "DeadlineExceeded", /greeting did not come within 50 ms/],
    ["another protocol", "SSH-2.0\n", "Unavailable", /not QMP/],
    ["an answer instead of a greeting", '{"return":{}}\n', "Unavailable", /not QMP/],
    ["half a greeting", GREETING.slice(0, 20), "DeadlineExceeded", /greeting/],
  ] as const;
  for (const [name, text, code, message] of greets) {
    await t.step(name, async () => {
      const qemu = new FakeQemu();
      if (text !== "") qemu.say(text);
      const opening = QmpClient.open(qemu.connection, { timeoutMs: 50 });
      await assert.rejects(opening, failsWith(code, message));
      assert.ok(qemu.closed);
    });
  }
  await t.step("a caller that gives up", async () => {
    const qemu = new FakeQemu();
    const opening = QmpClient.open(qemu.connection, {}, AbortSignal.abort());
    await assert.rejects(opening, failsWith("Cancelled", /greeting/));
    assert.ok(qemu.closed);
  });
});

Deno.test("a command is given up after its time, and its late answer does no harm", async () => {
  using held = await open();
  let late = 0;
  held.qemu.answers = (_, id) => void (late = id);
  await assert.rejects(
    held.client.execute("query-status", {}, { timeoutMs: 20 }),
    failsWith("DeadlineExceeded", /"query-status" did not come within 20 ms/),
  );
  await assert.rejects(
    held.client.execute("query-status", {}, { signal: AbortSignal.timeout(20) }),
    failsWith("DeadlineExceeded", /query-status/),
  );
  await assert.rejects(
    held.client.execute("query-status", {}, { signal: AbortSignal.abort() }),
    failsWith("Cancelled", /query-status/),
  );
  held.qemu.say(`{"return":{"status":"x","running":true},"id":${late}}\n`);
  held.qemu.answers = (_, id) => `{"return":{},"id":${id}}\n`;
  await held.client.execute("cont", {});
});

Deno.test("no more commands wait than is allowed", async () => {
  using held = await open({ pendingMax: 3 });
  held.qemu.answers = () => undefined;
  const waiting = [1, 2, 3].map(() => held.client.execute("cont", {}));
  await assert.rejects(
    held.client.execute("cont", {}),
    failsWith("ResourceExhausted", /3 are unanswered/),
  );
  const ends = waiting.map((one) => assert.rejects(one, failsWith("Unavailable", /was closed/)));
  held.client.close();
  await Promise.all(ends);
  assert.equal(await held.client.closed, undefined);
});

Deno.test("whatever bytes come, every command ends and nothing is thrown elsewhere", async () => {
  const valid = [
    '{"return":{"status":"running","running":true},"id":2}\n',
    '{"event":"STOP","timestamp":{"seconds":1}}\n',
    '{"error":{"class":"GenericError","desc":"no"},"id":2}\n',
    GREETING,
  ].map((text) => new TextEncoder().encode(text));
  let state = 20_261_122;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 400; round++) {
    const qemu = new FakeQemu();
    const mutate = (bytes: Uint8Array) => {
      const copy = bytes.slice(0, random(4) === 0 ? random(bytes.length) : bytes.length);
      for (let change = random(4); change > 0; change--) {
        copy[random(Math.max(1, copy.length))] = random(256);
      }
      return copy;
    };
    if (random(8) > 0) qemu.say(GREETING);
    qemu.answers = (command, id) => {
      if (command === "qmp_capabilities" && random(10) > 0) return `{"return":{},"id":${id}}\n`;
      for (let part = random(4); part >= 0; part--) {
        qemu.say(mutate(valid[random(valid.length)] ?? new Uint8Array()));
      }
      if (random(2) === 0) queueMicrotask(() => qemu.end());
      return undefined;
    };
    try {
      const options = { timeoutMs: 15, lineBytesMax: 4096 };
      const client = await QmpClient.open(qemu.connection, options);
      await client.execute("query-status", {}).finally(() => client.close());
    } catch (thrown) {
      assert.ok(thrown instanceof SandboxError, String(thrown));
    }
    qemu.end();
  }
});
