import assert from "node:assert/strict";
import { type Contender, interleave, type InterleaveOptions, seriesOf } from "./interleave.ts";

/** Contenders that note when they were asked, and what they gave. */
function recorders(names: readonly string[], calls: string[]): Contender<number>[] {
  return names.map((name) => ({
    name,
    sample: () => Promise.resolve(calls.push(name)),
  }));
}

function options(calls: string[], more: Partial<InterleaveOptions<number>>) {
  return {
    contenders: recorders(["a", "b", "c"], calls),
    rounds: { count: 3, warmUps: 0, budgetMs: 1e9 },
    signal: new AbortController().signal,
    ...more,
  };
}

Deno.test("interleave() takes one sample of each contender in each round, each round from another", async () => {
  const calls: string[] = [];
  const samples = await interleave(options(calls, {}));
  assert.equal(calls.join(""), "abcbcacab");
  assert.deepEqual(samples.get("a"), [1, 6, 8]);
  assert.deepEqual(samples.get("c"), [3, 5, 7]);
});

Deno.test("interleave() does not count the warm-up", async () => {
  const calls: string[] = [];
  const rounds = { count: 1, warmUps: 2, budgetMs: 1e9 };
  const samples = await interleave(options(calls, { rounds }));
  assert.equal(calls.length, 9);
  assert.deepEqual([...samples.values()].map((list) => list.length), [1, 1, 1]);
  assert.ok((samples.get("a") ?? []).every((order) => order > 6));
});

Deno.test("interleave() starts no round after its time, but finishes the one it is in", async () => {
  const calls: string[] = [];
  const rounds = { count: 100, warmUps: 1, budgetMs: 10 };
  await interleave(options(calls, { rounds, now: () => calls.length }));
  assert.equal(calls.length, 12);
});

Deno.test("interleave() gives one round that counts even when the warm-up took all the time", async () => {
  const calls: string[] = [];
  const rounds = { count: 100, warmUps: 1, budgetMs: 0 };
  const samples = await interleave(options(calls, { rounds, now: () => calls.length }));
  assert.deepEqual([...samples.values()].map((list) => list.length), [1, 1, 1]);
});

Deno.test("interleave() takes no further sample once it is aborted", async () => {
  const calls: string[] = [];
  const abort = new AbortController();
  const onSample = (taken: number) => {
    if (taken === 4) abort.abort(new Error("given up"));
  };
  await assert.rejects(interleave(options(calls, { signal: abort.signal, onSample })), /given up/);
  assert.equal(calls.length, 4);
});

Deno.test("interleave() tells before each sample what comes, out of how many", async () => {
  const told: string[] = [];
  const onSample = (taken: number, total: number, name: string) =>
    void told.push(`${taken}/${total} ${name}`);
  await interleave(options([], { rounds: { count: 1, warmUps: 0, budgetMs: 1 }, onSample }));
  assert.deepEqual(told, ["0/3 a", "1/3 b", "2/3 c"]);
});

Deno.test("interleave() passes a failed sample on", async () => {
  const contenders = [{ name: "a", sample: () => Promise.reject(new Error("no luck")) }];
  await assert.rejects(interleave(options([], { contenders })), /no luck/);
});

Deno.test("seriesOf() picks one number of each sample", () => {
  const samples = new Map([["a", [{ x: 1, y: 2 }, { x: 3, y: 4 }]]]);
  assert.deepEqual(seriesOf(samples, ({ y }) => y), new Map([["a", [2, 4]]]));
});
