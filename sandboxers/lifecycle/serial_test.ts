import assert from "node:assert/strict";
import { Serial } from "./serial.ts";
import { refused } from "./testing/refused.ts";

Deno.test("operations run one after the other, in order", async () => {
  const serial = new Serial();
  const steps: string[] = [];
  const operation = (name: string) => async (): Promise<string> => {
    steps.push(`${name} begins`);
    await null;
    steps.push(`${name} ends`);
    return name;
  };
  const results = await Promise.all([serial.run(operation("a")), serial.run(operation("b"))]);
  assert.deepEqual(results, ["a", "b"]);
  assert.deepEqual(steps, ["a begins", "a ends", "b begins", "b ends"]);
});

Deno.test("an operation that fails is heard by its caller only", async () => {
  const serial = new Serial();
  const failing = serial.run(() => Promise.reject(new Error("broken")));
  const next = serial.run(() => Promise.resolve("fine"));
  await assert.rejects(failing, /broken/);
  assert.equal(await next, "fine");
  assert.equal(serial.pending, 0);
});

Deno.test("an operation that throws at once does not stop the queue", async () => {
  const serial = new Serial();
  await assert.rejects(
    serial.run(() => {
      throw new Error("broken");
    }),
    /broken/,
  );
  assert.equal(await serial.run(() => Promise.resolve(1)), 1);
});

Deno.test("callers beyond the limit are told to come back, what has happened is not", async () => {
  const serial = new Serial();
  const gate = Promise.withResolvers<void>();
  const operations = Array.from({ length: 1024 }, () => serial.run(() => gate.promise));
  assert.equal(serial.pending, 1024);
  await refused(serial.run(() => Promise.resolve()), "ResourceExhausted");
  const always = serial.runAlways(() => Promise.resolve("told"));
  gate.resolve();
  await Promise.all(operations);
  assert.equal(await always, "told");
  assert.equal(serial.pending, 0);
  assert.equal(await serial.run(() => Promise.resolve(1)), 1);
});
