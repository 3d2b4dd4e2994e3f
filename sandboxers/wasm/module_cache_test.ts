/**
 * The cache of modules.
 *
 * @module
 */

import assert from "node:assert/strict";
import { ModuleCache } from "./module_cache.ts";

/** A module that notes when it was freed. */
class FakeModule implements Disposable {
  freed = 0;
  [Symbol.dispose](): void {
    this.freed++;
  }
}

/** A load that gives one module and counts. */
function loader() {
  const loads = { count: 0, module: new FakeModule() };
  const load = () => {
    loads.count++;
    return Promise.resolve(loads.module);
  };
  return { loads, load };
}

const ROOMY = { idleMax: 10, idleBytesMax: 1_000 };

Deno.test("callers at the same time share one load and one module", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const { loads, load } = loader();
  const [a, b] = await Promise.all([cache.acquire("x", 1, load), cache.acquire("x", 1, load)]);
  assert.equal(loads.count, 1);
  assert.equal(a.module, b.module);
  assert.equal(cache.size, 1);
});

Deno.test("an unused module is kept for the next caller", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const { loads, load } = loader();
  (await cache.acquire("x", 5, load))[Symbol.dispose]();
  assert.equal(loads.module.freed, 0);
  assert.equal(cache.bytes, 5);
  await cache.acquire("x", 5, load);
  assert.equal(loads.count, 1);
});

Deno.test("beyond the bounds the modules used longest ago go, and never a used one", async () => {
  const cache = new ModuleCache<FakeModule>({ idleMax: 2, idleBytesMax: 100 });
  const all = ["a", "b", "c", "d"].map((digest) => ({ digest, ...loader() }));
  const references = [];
  for (const { digest, load } of all) references.push(await cache.acquire(digest, 10, load));
  const freed = () => all.map(({ loads }) => loads.module.freed);
  for (const reference of references.slice(1)) reference[Symbol.dispose]();
  assert.deepEqual(freed(), [0, 1, 0, 0]);
  const again = await cache.acquire("c", 10, loader().load);
  again[Symbol.dispose]();
  references[0]?.[Symbol.dispose]();
  // "c" was used after "d", and "a" was loaded first but is used longest ago of the three.
  assert.deepEqual(freed(), [1, 1, 0, 0]);
});

Deno.test("modules too big to keep go at once", async () => {
  const cache = new ModuleCache<FakeModule>({ idleMax: 9, idleBytesMax: 100 });
  const { loads, load } = loader();
  (await cache.acquire("big", 101, load))[Symbol.dispose]();
  assert.equal(loads.module.freed, 1);
  assert.equal(cache.size, 0);
});

Deno.test("a reference counts once, however often it is disposed of", async () => {
  const cache = new ModuleCache<FakeModule>({ idleMax: 0, idleBytesMax: 0 });
  const { loads, load } = loader();
  const first = await cache.acquire("x", 1, load);
  const second = await cache.acquire("x", 1, load);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.equal(loads.module.freed, 0);
  second[Symbol.dispose]();
  assert.equal(loads.module.freed, 1);
});

Deno.test("a failed load is every waiting caller's, and the next caller tries again", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const fail = () => Promise.reject(new Error("damaged"));
  const calls = [cache.acquire("x", 1, fail), cache.acquire("x", 1, fail)];
  for (const call of calls) await assert.rejects(call, /damaged/);
  assert.equal(cache.size, 0);
  const { loads, load } = loader();
  await cache.acquire("x", 1, load);
  assert.equal(loads.count, 1);
});

Deno.test("close frees what is unused, and the rest when it is given up", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const used = loader();
  const unused = loader();
  const reference = await cache.acquire("used", 1, used.load);
  (await cache.acquire("unused", 1, unused.load))[Symbol.dispose]();
  cache.close();
  assert.equal(unused.loads.module.freed, 1);
  assert.equal(used.loads.module.freed, 0);
  reference[Symbol.dispose]();
  assert.equal(used.loads.module.freed, 1);
});

Deno.test("a look at a module does not hold it, and is there only once it is loaded", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const { loads, load } = loader();
  assert.deepEqual([cache.has("x"), cache.peek("x"), [...cache.modules()]], [false, undefined, []]);
  const loading = cache.acquire("x", 1, load);
  assert.deepEqual([cache.has("x"), cache.peek("x")], [true, undefined]);
  (await loading)[Symbol.dispose]();
  assert.equal(cache.peek("x"), loads.module);
  assert.deepEqual([...cache.modules()], [loads.module]);
  cache.close();
  assert.equal(loads.module.freed, 1);
});

Deno.test("a module is dropped when nobody uses it, and stays while somebody does", async () => {
  const cache = new ModuleCache<FakeModule>(ROOMY);
  const { loads, load } = loader();
  const reference = await cache.acquire("x", 1, load);
  cache.drop("x");
  assert.deepEqual([loads.module.freed, cache.has("x")], [0, true]);
  reference[Symbol.dispose]();
  cache.drop("x");
  cache.drop("never loaded");
  assert.deepEqual([loads.module.freed, cache.has("x")], [1, false]);
});
