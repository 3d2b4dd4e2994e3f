import assert from "node:assert/strict";
import { CompiledCache, type CompiledCacheOptions } from "./cache.ts";
import {
  digestOf,
  FakeCompiler,
  KeptLog,
  KEY,
  moduleBytes,
  NEVER,
  TestDirectory,
  until,
} from "./fixture.ts";

const MODULE = moduleBytes(1);
const DIGEST = digestOf(MODULE);

/** Opens a cache that begins to compile at once. */
async function open(
  place: TestDirectory,
  options: Partial<CompiledCacheOptions> = {},
): Promise<CompiledCache> {
  return await CompiledCache.open({ directory: place.path, key: KEY, delayMs: 0, ...options });
}

/** Asks for a module and waits until that is over. */
async function request(cache: CompiledCache, module = MODULE): Promise<void> {
  const digest = digestOf(module);
  cache.request(digest, module);
  await until("it is compiled", () => cache.state(digest) !== "compiling");
}

Deno.test("a module that is asked for is compiled once and then found", async () => {
  await using place = await TestDirectory.make();
  const compiler = new FakeCompiler();
  const cache = await open(place, { compiler });
  assert.equal(cache.state(DIGEST), "unknown");
  assert.equal(await cache.find(DIGEST), undefined);
  cache.request(DIGEST, MODULE);
  assert.equal(cache.state(DIGEST), "compiling");
  cache.request(DIGEST, MODULE);
  await until("it is ready", () => cache.state(DIGEST) === "ready");
  const path = await cache.find(DIGEST) ?? "";
  assert.match(await Deno.readTextFile(path), /^module 1\{/);
  await request(cache);
  assert.deepEqual(compiler.compiled, ["module 1"]);
  const { hits, misses, compiled } = cache.stats();
  assert.deepEqual({ hits, misses, compiled }, { hits: 1, misses: 1, compiled: 1 });
  await cache.close();
});

Deno.test("a later process finds what an earlier one has compiled, and compiles nothing", async () => {
  await using place = await TestDirectory.make();
  const first = await open(place, { compiler: new FakeCompiler() });
  await request(first);
  await first.close();
  const compiler = new FakeCompiler();
  const second = await open(place, { compiler });
  assert.equal(second.state(DIGEST), "unknown");
  assert.notEqual(await second.find(DIGEST), undefined);
  assert.equal(second.state(DIGEST), "ready");
  await request(second);
  assert.deepEqual(await second.compile(DIGEST, MODULE, NEVER), { kind: "present" });
  assert.deepEqual(compiler.compiled, []);
  await second.close();
});

Deno.test("a module that cannot be compiled is not tried again, also by a later process, for a day", async () => {
  await using place = await TestDirectory.make();
  let now = 1_000_000;
  const compiler = new FakeCompiler();
  compiler.outcome = { kind: "failed", reason: "it takes too long" };
  const options = { compiler, now: () => now };
  const first = await open(place, options);
  await request(first);
  assert.equal(first.state(DIGEST), "unavailable");
  first.request(DIGEST, MODULE);
  assert.equal(first.state(DIGEST), "unavailable");
  await first.close();

  const second = await open(place, options);
  assert.equal(await second.find(DIGEST), undefined);
  assert.equal(second.state(DIGEST), "unavailable");
  assert.deepEqual(await second.compile(DIGEST, MODULE, NEVER), {
    kind: "failed",
    reason: "it takes too long",
  });
  assert.equal(compiler.compiled.length, 1);
  now += 86_400_000;
  assert.equal(second.state(DIGEST), "unknown");
  compiler.outcome = { kind: "compiled" };
  await request(second);
  assert.equal(second.state(DIGEST), "ready");
  await second.close();
});

Deno.test("trouble that is not the module's is told once and tried again later", async () => {
  await using place = await TestDirectory.make();
  let now = 1_000_000;
  const compiler = new FakeCompiler();
  compiler.outcome = { kind: "unavailable", reason: "no launcher" };
  const { log, warnings } = new KeptLog();
  const cache = await open(place, { compiler, log, now: () => now });
  for (let number = 0; number < 3; number++) await request(cache, moduleBytes(number));
  assert.equal(cache.state(DIGEST), "unavailable");
  assert.deepEqual(warnings.map(({ message, fields }) => [message, fields.reason]), [
    ["cannot compile: modules are interpreted", "no launcher"],
  ]);
  now += 300_000;
  compiler.outcome = { kind: "compiled" };
  await request(cache);
  assert.equal(cache.state(DIGEST), "ready");
  await cache.close();
});

Deno.test("an entry that is damaged is told once and made again", async () => {
  await using place = await TestDirectory.make();
  const compiler = new FakeCompiler();
  const { log, warnings } = new KeptLog();
  const cache = await open(place, { compiler, log });
  for (let round = 0; round < 3; round++) {
    await request(cache);
    const path = await cache.find(DIGEST) ?? "";
    await Deno.writeTextFile(path, "garbage");
    assert.equal(await cache.find(DIGEST), undefined);
    assert.equal(cache.state(DIGEST), "unknown");
  }
  assert.equal(compiler.compiled.length, 3);
  assert.equal(cache.stats().rejected, 3);
  assert.equal(warnings.length, 1);
  await cache.close();
});

Deno.test("code that did not load is made again, but not for ever", async () => {
  await using place = await TestDirectory.make();
  const compiler = new FakeCompiler();
  const cache = await open(place, { compiler });
  await request(cache);
  cache.reject(DIGEST);
  assert.equal(cache.state(DIGEST), "unknown");
  assert.equal(await cache.find(DIGEST), undefined);
  await request(cache);
  assert.notEqual(await cache.find(DIGEST), undefined);
  cache.reject(DIGEST);
  assert.equal(cache.state(DIGEST), "unavailable");
  await request(cache);
  assert.equal(compiler.compiled.length, 2);
  await cache.close();
});

Deno.test("a directory that cannot be trusted switches the cache off, with one warning", async () => {
  await using place = await TestDirectory.make();
  await Deno.mkdir(place.path);
  await Deno.chmod(place.path, 0o777);
  const compiler = new FakeCompiler();
  const { log, warnings } = new KeptLog();
  const cache = await open(place, { compiler, log });
  assert.equal(cache.isOff, true);
  assert.equal(cache.state(DIGEST), "unavailable");
  cache.request(DIGEST, MODULE);
  assert.equal(await cache.find(DIGEST), undefined);
  cache.reject(DIGEST);
  assert.equal((await cache.compile(DIGEST, MODULE, NEVER)).kind, "unavailable");
  assert.deepEqual(await cache.usage(), { entries: 0, bytes: 0 });
  await cache.close();
  assert.deepEqual(compiler.compiled, []);
  assert.equal(warnings.length, 1);
  assert.match(String(warnings[0]?.fields.reason), /others may write to it/);
});

Deno.test("a directory that goes away under the cache harms nothing", async () => {
  await using place = await TestDirectory.make();
  const { log, warnings } = new KeptLog();
  const compiler = new FakeCompiler();
  const cache = await open(place, { compiler, log });
  await request(cache);
  await Deno.remove(place.path, { recursive: true });
  assert.equal(await cache.find(DIGEST), undefined);
  await request(cache);
  await request(cache, moduleBytes(2));
  assert.equal(cache.state(DIGEST), "unavailable");
  assert.equal(warnings.length, 1);
  assert.match(String(warnings[0]?.fields.reason), /No such file/);
  await cache.close();
});

Deno.test("code for which there is no room is not kept, and tried again later", async () => {
  await using place = await TestDirectory.make();
  const compiler = new FakeCompiler();
  compiler.library = () => new Uint8Array(10_000);
  const { log, warnings } = new KeptLog();
  const cache = await open(place, { compiler, log, bytesMax: 9_000 });
  await request(cache);
  assert.equal(cache.state(DIGEST), "unavailable");
  assert.equal(warnings.length, 1);
  assert.match(String(warnings[0]?.fields.reason), /larger than the whole cache/);
  assert.deepEqual(await place.names(), []);
  await cache.close();
});

Deno.test("when too many modules wait the newest is dropped, and may be asked for again", async () => {
  await using place = await TestDirectory.make();
  const gate = Promise.withResolvers<void>();
  const compiler = new FakeCompiler();
  compiler.gate = gate.promise;
  const cache = await open(place, { compiler, waitingMax: 1 });
  cache.request(digestOf(moduleBytes(0)), moduleBytes(0));
  await until("the first is compiled", () => compiler.compiled.length === 1);
  cache.request(DIGEST, MODULE);
  const dropped = moduleBytes(2);
  cache.request(digestOf(dropped), dropped);
  assert.equal(cache.state(DIGEST), "compiling");
  assert.equal(cache.state(digestOf(dropped)), "unknown");
  assert.equal(cache.stats().dropped, 1);
  gate.resolve();
  await until("both are there", () => cache.stats().compiled === 2);
  await request(cache, dropped);
  assert.equal(cache.state(digestOf(dropped)), "ready");
  await cache.close();
});

Deno.test("closing ends the compile that runs and leaves nothing half done", async () => {
  await using place = await TestDirectory.make();
  const { log, warnings } = new KeptLog();
  const compiler = new FakeCompiler();
  compiler.gate = new Promise(() => undefined);
  const cache = await open(place, { compiler, log });
  cache.request(DIGEST, MODULE);
  await until("it is compiled", () => compiler.compiled.length === 1);
  await cache.close();
  assert.deepEqual(await place.names(), []);
  assert.deepEqual(warnings, []);
  cache.request(DIGEST, MODULE);
  assert.equal(compiler.compiled.length, 1);
});

Deno.test("a process that does not compile uses what is there and asks nobody", async () => {
  await using place = await TestDirectory.make();
  const maker = await open(place, { compiler: new FakeCompiler() });
  await request(maker);
  await maker.close();
  const user = await open(place);
  assert.notEqual(await user.find(DIGEST), undefined);
  const other = moduleBytes(2);
  assert.equal(await user.find(digestOf(other)), undefined);
  user.request(digestOf(other), other);
  assert.equal(user.state(digestOf(other)), "unavailable");
  await user.close();
});

Deno.test({
  name: "a directory that cannot be written to is still read, with one warning",
  // On an overlay or tmpfs only a read-only mount keeps root from writing.
  ignore: Deno.uid() !== 0,
  async fn() {
    await using place = await TestDirectory.make();
    const maker = await open(place, { compiler: new FakeCompiler() });
    await request(maker);
    await maker.close();
    const mount = async (...args: string[]) => {
      const { success, stderr } = await new Deno.Command(args[0] ?? "", { args: args.slice(1) })
        .output();
      assert.ok(success, new TextDecoder().decode(stderr));
    };
    await mount("mount", "--bind", place.path, place.path);
    try {
      await mount("mount", "-o", "remount,bind,ro", place.path);
      const { log, warnings } = new KeptLog();
      const compiler = new FakeCompiler();
      const cache = await open(place, { compiler, log });
      assert.notEqual(await cache.find(DIGEST), undefined);
      await request(cache, moduleBytes(2));
      assert.deepEqual(compiler.compiled, []);
      assert.equal(warnings.length, 1);
      assert.match(String(warnings[0]?.fields.reason), /Read-only file system/);
      await cache.close();
    } finally {
      await mount("umount", place.path);
    }
  },
});

Deno.test({
  name: "a full disk leaves what was there, with one warning",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using place = await TestDirectory.make();
    await Deno.mkdir(place.path);
    const run = async (...args: string[]) => {
      const { success } = await new Deno.Command(args[0] ?? "", { args: args.slice(1) }).output();
      assert.ok(success);
    };
    await run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", place.path);
    try {
      const { log, warnings } = new KeptLog();
      const compiler = new FakeCompiler();
      const cache = await open(place, { compiler, log });
      await request(cache);
      compiler.library = () => new Uint8Array(1_000_000);
      for (const number of [2, 3]) await request(cache, moduleBytes(number));
      assert.equal(warnings.length, 1);
      assert.match(String(warnings[0]?.fields.reason), /No space left/);
      assert.notEqual(await cache.find(DIGEST), undefined);
      assert.equal((await place.names()).length, 1);
      await cache.close();
    } finally {
      await run("umount", place.path);
    }
  },
});
