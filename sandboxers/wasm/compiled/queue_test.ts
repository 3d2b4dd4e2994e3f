import assert from "node:assert/strict";
import { until } from "./fixture.ts";
import { type Job, JobQueue, type JobQueueOptions } from "./queue.ts";

const OPTIONS: JobQueueOptions = {
  runningMax: 1,
  waitingMax: 3,
  waitingWeightMax: 100,
  delayMs: 0,
};

/** Jobs that run until they are let go, and what they did. */
class Jobs {
  readonly events: string[] = [];
  readonly #gates = new Map<string, PromiseWithResolvers<void>>();

  job(key: string, weight = 1): Job {
    const gate = Promise.withResolvers<void>();
    this.#gates.set(key, gate);
    return {
      key,
      weight,
      run: async (signal) => {
        this.events.push(`+${key}`);
        signal.addEventListener("abort", () => gate.resolve());
        await gate.promise;
        this.events.push(`-${key}`);
      },
    };
  }

  finish(key: string): void {
    this.#gates.get(key)?.resolve();
  }
}

Deno.test("the queue runs one job at a time, in the order in which they came", async () => {
  const queue = new JobQueue(OPTIONS);
  const jobs = new Jobs();
  for (const key of ["a", "b", "c"]) assert.equal(queue.add(jobs.job(key)), "taken");
  await until("a runs", () => jobs.events.length === 1);
  for (const key of ["c", "b", "a"]) jobs.finish(key);
  await until("all ran", () => queue.size === 0);
  assert.deepEqual(jobs.events, ["+a", "-a", "+b", "-b", "+c", "-c"]);
  assert.equal(await queue.close(0), true);
});

Deno.test("the queue runs as many jobs at a time as it may", async () => {
  const queue = new JobQueue({ ...OPTIONS, runningMax: 2 });
  const jobs = new Jobs();
  for (const key of ["a", "b", "c"]) queue.add(jobs.job(key));
  await until("two run", () => jobs.events.length === 2);
  jobs.finish("b");
  await until("the third runs", () => jobs.events.length === 4);
  assert.deepEqual(jobs.events, ["+a", "+b", "-b", "+c"]);
  assert.equal(await queue.close(1_000), true);
});

Deno.test("the queue takes a key once, whether it waits or runs, and again when it is done", async () => {
  const queue = new JobQueue(OPTIONS);
  const jobs = new Jobs();
  assert.equal(queue.add(jobs.job("a")), "taken");
  assert.equal(queue.add(jobs.job("a")), "known");
  assert.equal(queue.has("a"), true);
  await until("it runs", () => jobs.events.length === 1);
  assert.equal(queue.add(jobs.job("b")), "taken");
  assert.equal(queue.add(jobs.job("b")), "known");
  await queue.close(1_000);
  const other = new JobQueue(OPTIONS);
  other.add(jobs.job("a"));
  jobs.finish("a");
  await until("it is done", () => other.size === 0);
  assert.equal(other.add(jobs.job("a")), "taken");
  jobs.finish("a");
  await until("it is done again", () => other.size === 0);
  await other.close(1_000);
});

Deno.test("the queue refuses the newest when too many or too heavy jobs wait", async () => {
  const queue = new JobQueue(OPTIONS);
  const jobs = new Jobs();
  queue.add(jobs.job("running", 90));
  await until("it runs", () => jobs.events.length === 1);
  assert.equal(queue.add(jobs.job("a", 99)), "taken", "a job that runs weighs nothing");
  assert.equal(queue.add(jobs.job("b", 2)), "full");
  assert.equal(queue.add(jobs.job("c", 1)), "taken");
  assert.equal(queue.add(jobs.job("d", 0)), "taken");
  assert.equal(queue.add(jobs.job("e", 0)), "full");
  await queue.close(1_000);
});

Deno.test("closing the queue ends what runs, drops what waits and takes nothing more", async () => {
  const queue = new JobQueue(OPTIONS);
  const jobs = new Jobs();
  queue.add(jobs.job("a"));
  queue.add(jobs.job("b"));
  await until("a runs", () => jobs.events.length === 1);
  assert.equal(await queue.close(5_000), true);
  assert.deepEqual(jobs.events, ["+a", "-a"]);
  assert.equal(queue.add(jobs.job("c")), "closed");
  assert.equal(queue.size, 0);
});

Deno.test("closing the queue does not wait for ever for a job that does not end", async () => {
  const queue = new JobQueue(OPTIONS);
  const { promise, resolve } = Promise.withResolvers<void>();
  queue.add({ key: "stuck", weight: 0, run: () => promise });
  await until("it runs", () => queue.has("stuck"));
  await new Promise((done) => setTimeout(done, 10));
  assert.equal(await queue.close(10), false);
  resolve();
});

Deno.test("a job waits for its moment before it begins", async () => {
  const queue = new JobQueue({ ...OPTIONS, delayMs: 3_600_000 });
  const jobs = new Jobs();
  queue.add(jobs.job("a"));
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(jobs.events, []);
  assert.equal(queue.has("a"), true);
  assert.equal(await queue.close(0), true);
});
