import assert from "node:assert/strict";
import type { SandboxRecord } from "./record.ts";
import type { Store } from "./store.ts";
import { refused } from "./testing/refused.ts";
import { sandboxRecord } from "./testing/records.ts";
import { turns } from "./testing/scheduler.ts";
import { type Snapshot, Writer } from "./writer.ts";

/** A store whose operations end when the test says so. */
class SlowStore implements Store {
  readonly log: string[] = [];
  readonly #open: PromiseWithResolvers<void>[] = [];

  put(record: SandboxRecord): Promise<void> {
    return this.#begin(`put ${record.spec.id} ${record.state}`);
  }

  delete(id: string): Promise<void> {
    return this.#begin(`delete ${id}`);
  }

  load(): Promise<never> {
    return Promise.reject(new Error("not here"));
  }

  /** Ends the oldest operation, with an error where one is given. */
  async end(error?: Error): Promise<void> {
    const operation = this.#open.shift();
    assert.ok(operation !== undefined, "nothing is being written");
    if (error === undefined) operation.resolve();
    else operation.reject(error);
    await turns(20);
  }

  #begin(what: string): Promise<void> {
    this.log.push(what);
    const operation = Promise.withResolvers<void>();
    this.#open.push(operation);
    return operation.promise;
  }
}

function slowWriter() {
  const store = new SlowStore();
  const memory = new Map<string, SandboxRecord>();
  const warnings: string[] = [];
  const stored: string[] = [];
  const current = (id: string): Snapshot => {
    const record = memory.get(id);
    return { record, stored: () => void stored.push(`${id} ${record?.state}`) };
  };
  const writer = new Writer(store, current, (id) => void warnings.push(id));
  return { store, memory, stored, warnings, writer };
}

Deno.test("writes of one sandbox never overlap, and those that wait are one", async () => {
  const { store, memory, writer } = slowWriter();
  memory.set("s", sandboxRecord("s"));
  const first = writer.save("s");
  memory.set("s", sandboxRecord("s", { state: "starting" }));
  const second = writer.save("s");
  memory.set("s", sandboxRecord("s", { state: "ready" }));
  const third = writer.save("s");
  await turns(20);
  assert.deepEqual(store.log, ["put s created"]);
  await store.end();
  await first;
  assert.deepEqual(store.log, ["put s created", "put s ready"]);
  await store.end();
  await Promise.all([second, third]);
  assert.equal(writer.pending, 0);
});

Deno.test("sandboxes are written side by side", async () => {
  const { store, memory, writer } = slowWriter();
  for (const id of ["a", "b"]) memory.set(id, sandboxRecord(id));
  const writes = [writer.save("a"), writer.save("b")];
  assert.deepEqual(store.log, ["put a created", "put b created"]);
  await store.end();
  await store.end();
  await Promise.all(writes);
});

Deno.test("a sandbox that is not in memory any more is removed", async () => {
  const { store, memory, writer } = slowWriter();
  memory.set("s", sandboxRecord("s"));
  const put = writer.save("s");
  memory.delete("s");
  const removal = writer.save("s");
  await store.end();
  await store.end();
  await Promise.all([put, removal]);
  assert.deepEqual(store.log, ["put s created", "delete s"]);
});

Deno.test("a sandbox that comes again with its id is written after the old one was removed", async () => {
  const { store, memory, writer } = slowWriter();
  const removal = writer.save("s");
  memory.set("s", sandboxRecord("s"));
  const put = writer.save("s");
  await turns(20);
  assert.deepEqual(store.log, ["delete s"]);
  await store.end();
  await removal;
  assert.deepEqual(store.log, ["delete s", "put s created"]);
  await store.end();
  await put;
});

Deno.test("what is in the store is told with what it was when the write began", async () => {
  const { store, memory, stored, writer } = slowWriter();
  memory.set("s", sandboxRecord("s"));
  writer.saveLater("s");
  memory.set("s", sandboxRecord("s", { state: "ready" }));
  await store.end();
  assert.deepEqual(stored, ["s created"]);
  writer.saveLater("s");
  await store.end(new Error("broken"));
  assert.deepEqual(stored, ["s created"]);
  memory.delete("s");
  writer.saveLater("s");
  await store.end();
  assert.deepEqual(stored, ["s created", "s undefined"]);
});

Deno.test("a write that failed is heard by its callers, the next one is not held up", async () => {
  const { store, memory, writer } = slowWriter();
  memory.set("s", sandboxRecord("s"));
  const first = writer.save("s");
  const second = writer.save("s");
  await store.end(new Error("No space left on device (os error 28)"));
  await refused(first, "ResourceExhausted", /cannot store the state of sandbox "s"/);
  assert.deepEqual(store.log, ["put s created", "put s created"]);
  await store.end();
  await second;
  assert.equal(writer.pending, 0);
});

Deno.test("a write that nobody waited for and that failed is repeated when the store works again", async () => {
  const { store, memory, warnings, writer } = slowWriter();
  for (const id of ["a", "b"]) memory.set(id, sandboxRecord(id));
  writer.saveLater("a");
  await store.end(new Error("broken"));
  assert.deepEqual(warnings, ["a"]);
  assert.equal(writer.pending, 1);
  memory.set("a", sandboxRecord("a", { state: "stopped" }));
  const other = writer.save("b");
  await store.end();
  await other;
  assert.deepEqual(store.log, ["put a created", "put b created", "put a stopped"]);
  await store.end();
  assert.equal(writer.pending, 0);
});

Deno.test("a store that stays broken is not written to for ever", async () => {
  const { store, memory, warnings, writer } = slowWriter();
  for (const id of ["a", "b"]) memory.set(id, sandboxRecord(id));
  for (const id of ["a", "b"]) {
    writer.saveLater(id);
    await store.end(new Error("broken"));
  }
  const flushed = writer.flush();
  await turns(20);
  await store.end(new Error("broken"));
  await store.end(new Error("broken"));
  await flushed;
  assert.equal(store.log.length, 4);
  assert.deepEqual(warnings, ["a", "b", "a", "b"]);
  assert.equal(writer.pending, 2);
});

Deno.test("a flush repeats what failed and waits for all that is being written", async () => {
  const { store, memory, writer } = slowWriter();
  memory.set("a", sandboxRecord("a"));
  writer.saveLater("a");
  await store.end(new Error("broken"));
  let flushed = false;
  const flush = writer.flush().then(() => flushed = true);
  await turns(20);
  assert.equal(flushed, false);
  await store.end();
  await flush;
  assert.equal(writer.pending, 0);
});
