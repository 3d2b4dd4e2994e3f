import assert from "node:assert/strict";
import { CompiledDirectory, type DirectoryLimits } from "./directory.ts";
import { cacheKey } from "./cache_key.ts";
import { digestOf, KEY, moduleBytes, TestDirectory } from "./fixture.ts";

const LIMITS: DirectoryLimits = { bytesMax: 1_000_000, entriesMax: 100 };
const NONE: ReadonlySet<string> = new Set();
const MODULE = digestOf(moduleBytes(0));

/** What a directory was asked for, with a count of what was damaged. */
async function find(directory: CompiledDirectory, module = MODULE, key = KEY) {
  let bad = 0;
  const path = await directory.find(module, key, () => bad++);
  return { path, bad };
}

/** Stores a library of so many bytes. */
async function store(
  directory: CompiledDirectory,
  module = MODULE,
  sizeBytes = 1_000,
  keep = NONE,
): Promise<boolean> {
  const writer = await directory.create();
  for (let rest = sizeBytes; rest > 0; rest -= 300) {
    await writer.write(new Uint8Array(Math.min(rest, 300)).fill(rest & 0xff));
  }
  return await directory.store(writer, module, KEY, keep);
}

/** The code of an error. */
async function refused(path: string, words: RegExp): Promise<void> {
  await assert.rejects(CompiledDirectory.open(path, LIMITS), {
    code: "FailedPrecondition",
    message: words,
  });
}

Deno.test("a library that was stored is found, as it was, by its module and key only", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, LIMITS);
  assert.deepEqual(await find(directory), { path: undefined, bad: 0 });
  assert.equal(await store(directory), true);
  const { path = "" } = await find(directory);
  const content = await Deno.readFile(path);
  assert.deepEqual(content.subarray(0, 300), new Uint8Array(300).fill(1_000 & 0xff));
  assert.deepEqual(content.subarray(900, 1_000), new Uint8Array(100).fill(100));
  assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
  assert.equal(((await Deno.stat(place.path)).mode ?? 0) & 0o777, 0o700);
  const other = cacheKey({
    engine: "test 2",
    options: { optimizationLevel: 2, interruptible: false },
    processor: "none",
  });
  assert.deepEqual(await find(directory, MODULE, other), { path: undefined, bad: 0 });
  assert.deepEqual(await find(directory, digestOf(moduleBytes(1))), { path: undefined, bad: 0 });
  assert.deepEqual(await directory.usage(), { entries: 1, bytes: content.length });
  assert.deepEqual((await place.names()).length, 1, "nothing temporary is left");
});

Deno.test("a library that was cut short, changed or swapped is removed and not found", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, LIMITS);
  const damages: readonly (readonly [string, (bytes: Uint8Array<ArrayBuffer>) => Uint8Array])[] = [
    ["empty", () => new Uint8Array()],
    ["its first half", (bytes) => bytes.subarray(0, bytes.length / 2)],
    ["without its last byte", (bytes) => bytes.subarray(0, -1)],
    ["with one more byte", (bytes) => new Uint8Array([...bytes, 0])],
    ["without its first byte", (bytes) => bytes.subarray(1)],
    ["with a changed byte of code", (bytes) => bytes.with(500, 1)],
    ["with a changed byte of its record", (bytes) => bytes.with(bytes.indexOf(0x7b, 1_000), 1)],
    ["with another length", (bytes) => bytes.with(bytes.length - 12, 255)],
    ["of zeros", (bytes) => bytes.map(() => 0)],
  ];
  for (const [what, damage] of damages) {
    await store(directory);
    const { path = "" } = await find(directory);
    await Deno.writeFile(path, damage(await Deno.readFile(path)));
    assert.deepEqual(await find(directory), { path: undefined, bad: 1 }, what);
    await assert.rejects(Deno.lstat(path), Deno.errors.NotFound, what);
  }
});

Deno.test("an entry under another one's name is not found", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, LIMITS);
  await store(directory);
  const { path = "" } = await find(directory);
  const other = digestOf(moduleBytes(1));
  await Deno.copyFile(path, path.replace(MODULE, other));
  assert.deepEqual(await find(directory, other), { path: undefined, bad: 1 });
});

Deno.test("an entry that is a link, another user's or writable by others is not used", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, LIMITS);
  const changes: readonly ((path: string) => Promise<void>)[] = [
    (path) => Deno.chmod(path, 0o620),
    (path) => Deno.chmod(path, 0o602),
    async (path) => {
      await Deno.rename(path, `${place.parent}/real`);
      await Deno.symlink(`${place.parent}/real`, path);
    },
    ...(Deno.uid() === 0 ? [(path: string) => Deno.chown(path, 65_534, null)] : []),
  ];
  for (const change of changes) {
    await store(directory);
    const { path = "" } = await find(directory);
    await change(path);
    assert.deepEqual(await find(directory), { path: undefined, bad: 1 });
  }
});

Deno.test("the entries used longest ago go when there is too little room, those in use last", async () => {
  await using place = await TestDirectory.make();
  const modules = [0, 1, 2, 3].map((number) => digestOf(moduleBytes(number)));
  const [a = "", b = "", c = "", d = ""] = modules;
  const directory = await CompiledDirectory.open(place.path, { bytesMax: 5_000, entriesMax: 100 });
  for (const [at, module] of [a, b, c].entries()) {
    assert.equal(await store(directory, module), true);
    const { path = "" } = await find(directory, module);
    await Deno.utime(path, at + 1, at + 1);
  }
  assert.equal(await store(directory, d, 1_000, new Set([a])), true);
  const there = async () => {
    const names = await place.names();
    return modules.map((module) => names.some((name) => name.startsWith(module)));
  };
  assert.deepEqual(await there(), [true, false, true, true], "a is in use, b was used before c");
  assert.equal(await store(directory, b, 4_000, new Set([a])), true);
  assert.deepEqual(await there(), [false, true, false, false], "in the end nothing is kept");
  assert.equal(await store(directory, a, 6_000), false, "larger than all that may be");
  assert.deepEqual(await there(), [false, true, false, false]);
  assert.equal((await place.names()).length, 1);
});

Deno.test("there are never more entries than allowed", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, { bytesMax: 1e9, entriesMax: 3 });
  for (let number = 0; number < 8; number++) {
    assert.equal(await store(directory, digestOf(moduleBytes(number))), true);
    assert.ok((await directory.usage()).entries <= 3);
  }
  assert.equal((await directory.usage()).entries, 3);
});

Deno.test("a failure is remembered until it expires, and forgotten when the module compiles", async () => {
  await using place = await TestDirectory.make();
  const directory = await CompiledDirectory.open(place.path, LIMITS);
  await directory.storeFailure(MODULE, KEY, "no good", 2_000);
  const again = await CompiledDirectory.open(place.path, LIMITS);
  assert.deepEqual(await again.failure(MODULE, KEY, 1_999), {
    reason: "no good",
    expiresAtMs: 2_000,
  });
  assert.equal(await again.failure(MODULE, KEY, 2_000), undefined);
  assert.deepEqual(await place.names(), []);
  await directory.storeFailure(MODULE, KEY, "no good", 2_000);
  await store(directory);
  assert.equal(await directory.failure(MODULE, KEY, 0), undefined);
  await directory.storeFailure(MODULE, KEY, "no good", 2_000);
  const [name = ""] = (await place.names()).filter((file) => file.endsWith(".failed"));
  await Deno.writeTextFile(`${place.path}/${name}`, "{ nonsense");
  assert.equal(await directory.failure(MODULE, KEY, 0), undefined);
});

Deno.test("what a crash has left is removed, what another process writes is not", async () => {
  await using place = await TestDirectory.make();
  const first = await CompiledDirectory.open(place.path, LIMITS);
  await using writing = await first.create();
  await writing.write(new Uint8Array(10));
  await Deno.writeFile(`${place.path}/.tmp-left`, new Uint8Array(10));
  await CompiledDirectory.open(place.path, LIMITS);
  assert.deepEqual(await place.names(), [writing.path.split("/").at(-1)]);
  assert.equal(await first.store(writing, MODULE, KEY, NONE), true);
  assert.notEqual((await find(first)).path, undefined);
});

Deno.test("a directory that others control is refused", async () => {
  await using place = await TestDirectory.make();
  await Deno.mkdir(place.path, { mode: 0o700 });
  for (const mode of [0o720, 0o702, 0o777]) {
    await Deno.chmod(place.path, mode);
    await refused(place.path, /others may write to it: expected mode 0700/);
  }
  await Deno.chmod(place.path, 0o755);
  await CompiledDirectory.open(place.path, LIMITS);
  await Deno.symlink(place.path, `${place.parent}/link`);
  await refused(`${place.parent}/link`, /it is a symbolic link/);
  await Deno.writeTextFile(`${place.parent}/file`, "");
  await refused(`${place.parent}/file`, /it is no directory/);
  await refused(`${place.parent}/file/below`, /it cannot be made/);
});

Deno.test({
  name: "a directory of another user is refused",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using place = await TestDirectory.make();
    await Deno.mkdir(place.path, { mode: 0o700 });
    await Deno.chown(place.path, 65_534, 65_534);
    await refused(place.path, /it belongs to user 65534: expected this user or root/);
  },
});
