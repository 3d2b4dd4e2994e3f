import assert from "node:assert/strict";
import { type Disk, realDisk } from "./disk.ts";
import { SandboxError } from "./errors.ts";
import { parseRecord } from "./record.ts";
import { FileStore, MemoryStore } from "./store.ts";
import { refused } from "./testing/refused.ts";
import { containerRecord, sandboxRecord } from "./testing/records.ts";

/** A directory of its own for one test. */
async function temporary(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-store-" });
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

async function names(path: string): Promise<string[]> {
  const entries: string[] = [];
  for await (const entry of Deno.readDir(path)) entries.push(entry.name);
  return entries.sort();
}

Deno.test("a record is read back as it was written", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  const record = sandboxRecord("s", {
    state: "ready",
    driver: { pid: 7, nested: [null, true, "x"] },
    containers: [containerRecord("c", "s")],
  });
  await store.put(record);
  assert.deepEqual(await new FileStore(directory.path).load(), { records: [record], damaged: [] });
});

Deno.test("a record replaces the one before, and nothing but it stays", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  await store.put(sandboxRecord("s"));
  await store.put(sandboxRecord("s", { state: "ready" }));
  const { records } = await store.load();
  assert.deepEqual(records.map(({ state }) => state), ["ready"]);
  assert.deepEqual(await names(`${directory.path}/sandboxes/s`), ["record.json"]);
});

Deno.test("records are for root only", async () => {
  await using directory = await temporary();
  await new FileStore(directory.path).put(sandboxRecord("s"));
  const file = await Deno.stat(`${directory.path}/sandboxes/s/record.json`);
  assert.equal((file.mode ?? 0) & 0o777, 0o600);
  const folder = await Deno.stat(`${directory.path}/sandboxes/s`);
  assert.equal((folder.mode ?? 0) & 0o777, 0o700);
});

Deno.test("a deleted record is gone with its directory; deleting it again succeeds", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  await store.put(sandboxRecord("s"));
  await store.delete("s");
  await store.delete("s");
  assert.deepEqual(await names(`${directory.path}/sandboxes`), []);
  assert.deepEqual((await store.load()).records, []);
});

Deno.test("ids that are no names never touch the disk", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  await refused(store.put(sandboxRecord("../x")), "InvalidArgument");
  await refused(store.delete(".."), "InvalidArgument");
  assert.deepEqual(await names(directory.path), []);
});

Deno.test("a crash before the rename leaves the old record, and the new one can be written", async () => {
  await using directory = await temporary();
  const crashing: Disk = { ...realDisk, rename: () => Promise.reject(new Error("power failed")) };
  await new FileStore(directory.path).put(sandboxRecord("s"));
  const written = new FileStore(directory.path, crashing).put(
    sandboxRecord("s", { state: "ready" }),
  );
  await refused(written, "Internal", /cannot store the state of sandbox "s": power failed/);
  const folder = `${directory.path}/sandboxes/s`;
  assert.deepEqual(await names(folder), ["record.json", "record.json.tmp"]);
  const next = new FileStore(directory.path);
  assert.deepEqual((await next.load()).records.map(({ state }) => state), ["created"]);
  await next.put(sandboxRecord("s", { state: "stopped" }));
  assert.deepEqual(await names(folder), ["record.json"]);
});

Deno.test("a directory without a record is removed: a crash left it", async () => {
  await using directory = await temporary();
  await Deno.mkdir(`${directory.path}/sandboxes/half`, { recursive: true });
  await Deno.writeTextFile(`${directory.path}/sandboxes/half/record.json.tmp`, "{");
  const contents = await new FileStore(directory.path).load();
  assert.deepEqual(contents, { records: [], damaged: [] });
  assert.deepEqual(await names(`${directory.path}/sandboxes`), []);
});

Deno.test("records that cannot be read are moved aside with the reason, the others are read", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  for (const id of ["good", "torn", "foreign", "swapped", "hollow"]) {
    await store.put(sandboxRecord(id));
  }
  const write = (id: string, text: string): Promise<void> =>
    Deno.writeTextFile(`${directory.path}/sandboxes/${id}/record.json`, text);
  await write("torn", JSON.stringify(sandboxRecord("torn")).slice(0, 40));
  await write("foreign", JSON.stringify({ ...sandboxRecord("foreign"), version: 0 }));
  await write("swapped", JSON.stringify(sandboxRecord("good")));
  await write("hollow", JSON.stringify({ ...sandboxRecord("hollow"), containers: [{}] }));
  await Deno.writeTextFile(`${directory.path}/sandboxes/stray`, "a file, not a directory");

  const { records, damaged } = await store.load();
  assert.deepEqual(records.map(({ spec }) => spec.id), ["good"]);
  const reasons = new Map(damaged.map(({ id, reason }) => [id, reason]));
  assert.deepEqual([...reasons.keys()].sort(), ["foreign", "hollow", "stray", "swapped", "torn"]);
  assert.match(reasons.get("torn") ?? "", /not JSON; moved to .*\/damaged\/torn$/);
  assert.match(reasons.get("foreign") ?? "", /not a record of version 1/);
  assert.match(reasons.get("swapped") ?? "", /record of sandbox "good" found instead/);
  assert.deepEqual(await names(`${directory.path}/sandboxes`), ["good"]);
  assert.deepEqual(await names(`${directory.path}/damaged`), [...reasons.keys()].sort());
  assert.deepEqual((await store.load()).damaged, []);
});

Deno.test("a record of a later version is refused by name, and nothing is touched", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  for (const id of ["bad", "later", "good"]) await store.put(sandboxRecord(id));
  const file = (id: string) => `${directory.path}/sandboxes/${id}/record.json`;
  const later = JSON.stringify({
    ...sandboxRecord("later"),
    version: 7,
    more: "than is known here",
  });
  await Deno.writeTextFile(file("later"), later);
  await Deno.writeTextFile(file("bad"), "torn");
  await assert.rejects(store.load(), (error) => {
    assert.ok(error instanceof SandboxError && error.code === "FailedPrecondition");
    assert.match(error.message, /sandbox "later".*version 7.*reads version 1.*newer sandboxer/);
    return true;
  });
  assert.deepEqual(await names(`${directory.path}/sandboxes`), ["bad", "good", "later"]);
  assert.deepEqual(await Promise.all(["later", "bad"].map((id) => Deno.readTextFile(file(id)))), [
    later,
    "torn",
  ]);
});

Deno.test("what cannot even be moved aside does not keep the others from being read", async () => {
  await using directory = await temporary();
  await new FileStore(directory.path).put(sandboxRecord("good"));
  await new FileStore(directory.path).put(sandboxRecord("bad"));
  const broken: Disk = {
    ...realDisk,
    read: (path) =>
      path.includes("/bad/")
        ? Promise.reject(new Error("Input/output error"))
        : realDisk.read(path),
    rename: () => Promise.reject(new Error("Input/output error")),
  };
  const { records, damaged } = await new FileStore(directory.path, broken).load();
  assert.deepEqual(records.map(({ spec }) => spec.id), ["good"]);
  assert.match(damaged[0]?.reason ?? "", /Input\/output error; cannot move it to/);
});

Deno.test("a full disk is ResourceExhausted", async () => {
  await using directory = await temporary();
  const full: Disk = {
    ...realDisk,
    writeSynced: () => Promise.reject(new Error("No space left on device (os error 28)")),
  };
  const put = new FileStore(directory.path, full).put(sandboxRecord("s"));
  await refused(put, "ResourceExhausted", /cannot store the state of sandbox "s": No space/);
});

Deno.test("a real full disk is ResourceExhausted", async () => {
  await using directory = await temporary();
  // Every write to this device fails with ENOSPC; see full(4).
  const full: Disk = {
    ...realDisk,
    writeSynced: (_path, text) => realDisk.writeSynced("/dev/full", text),
  };
  const put = new FileStore(directory.path, full).put(sandboxRecord("s"));
  await refused(put, "ResourceExhausted");
});

Deno.test("a state directory that may not be used is PermissionDenied", async () => {
  const denying: Disk = {
    ...realDisk,
    makeDirectory: () => Promise.reject(new Deno.errors.PermissionDenied("os error 13")),
  };
  const store = new FileStore("/state", denying);
  await refused(store.put(sandboxRecord("s")), "PermissionDenied");
  await refused(store.load(), "PermissionDenied", /cannot read the state directory/);
});

Deno.test("a state directory that vanished is not a sandbox that is not found", async () => {
  await using directory = await temporary();
  const store = new FileStore(directory.path);
  await Deno.writeTextFile(`${directory.path}/sandboxes`, "in the way");
  await refused(store.put(sandboxRecord("s")), "Internal");
});

Deno.test("the entry of a new sandbox is synced in the directory above it, once", async () => {
  await using directory = await temporary();
  const synced: string[] = [];
  const watching: Disk = {
    ...realDisk,
    sync: (path) => {
      synced.push(path.slice(directory.path.length));
      return realDisk.sync(path);
    },
  };
  const store = new FileStore(directory.path, watching);
  await store.put(sandboxRecord("s"));
  await store.put(sandboxRecord("s"));
  assert.deepEqual(synced, ["/sandboxes/s", "/sandboxes", "/sandboxes/s"]);
});

Deno.test("a record must say what recovery walks through", () => {
  const broken: unknown[] = [
    null,
    [],
    "text",
    { ...sandboxRecord("s"), version: 0 },
    { ...sandboxRecord("s"), spec: {} },
    { ...sandboxRecord("s"), state: "half" },
    { ...sandboxRecord("s"), containers: {} },
    { ...sandboxRecord("s"), containers: [{ ...containerRecord("c", "s"), state: "half" }] },
    { ...sandboxRecord("s"), containers: [{ ...containerRecord("c", "s"), processes: [null] }] },
    { ...sandboxRecord("s"), containers: [{ ...containerRecord("c", "s"), spec: { id: "c" } }] },
  ];
  for (const value of broken) {
    assert.throws(() => parseRecord(JSON.stringify(value)), /not a record of version 1/);
  }
});

Deno.test("a memory store keeps nothing and always works", async () => {
  const store = new MemoryStore();
  await store.put(sandboxRecord("s"));
  await store.delete("s");
  assert.deepEqual(await store.load(), { records: [], damaged: [] });
});
