import assert from "node:assert/strict";
import { LogBudget } from "./log_budget.ts";
import { outputOf } from "./log_format.ts";
import { followOutput, type LogChoice, readLog } from "./log_reading.ts";
import { RunLog, type RunLogOptions } from "./run_log.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const NEVER = new AbortController().signal;

/** A directory with a log. */
async function place(): Promise<AsyncDisposable & { readonly directory: string }> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-log-" });
  return { directory, [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }) };
}

function openLog(directory: string, more: Partial<RunLogOptions> = {}): RunLog {
  return new RunLog({ directory, label: `container "a"`, fileBytesMax: () => 1 << 20, ...more });
}

async function read(log: RunLog, choice: Partial<LogChoice> = {}): Promise<string> {
  const pieces = await Array.fromAsync(readLog(log, { follow: false, ...choice }, NEVER));
  return new TextDecoder().decode(outputOf(pieces));
}

async function files(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
}

Deno.test("a log is bounded: it keeps its two last files", async () => {
  await using at = await place();
  using log = openLog(at.directory, { fileBytesMax: () => 1000 });
  for (let i = 0; i < 200; i++) log.append("stdout", bytes(`line ${i}\n`));
  assert.equal((await files(at.directory)).length, 2);
  assert.ok(log.bytes < 2200, `${log.bytes}`);
  const kept = (await read(log)).trim().split("\n");
  assert.equal(kept.at(-1), "line 199");
  const first = Number(kept[0]?.slice(5));
  assert.deepEqual(kept, Array.from({ length: 200 - first }, (_, i) => `line ${first + i}`));
});

Deno.test("only the last lines are read, or only those since some time, across files", async () => {
  await using at = await place();
  let now = 1_000;
  using log = openLog(at.directory, { fileBytesMax: () => 1000, now: () => now });
  for (let i = 0; i < 40; i++) {
    now += 1_000;
    log.append(i % 2 === 0 ? "stdout" : "stderr", bytes(`line ${i}\n`));
  }
  assert.equal(await read(log, { tail: 3 }), "line 37\nline 38\nline 39\n");
  assert.equal(await read(log, { sinceMs: now - 1_000 }), "line 38\nline 39\n");
  assert.equal(await read(log, { sinceMs: now - 2_000, tail: 1 }), "line 39\n");
  assert.equal(await read(log, { tail: 1_000 }), await read(log));
  log.append("stdout", bytes("begun"));
  assert.equal(await read(log, { tail: 2 }), "line 39\nbegun");
});

Deno.test("a log is gone on with by the next process, without a line that was half written", async () => {
  await using at = await place();
  {
    using log = openLog(at.directory);
    log.append("stdout", bytes("whole\n"));
  }
  const [file = ""] = await files(at.directory);
  await Deno.writeTextFile(`${at.directory}/${file}`, "2026-01-01T00:00:00.000Z std", {
    append: true,
  });
  using log = openLog(at.directory);
  log.append("stdout", bytes("after\n"));
  assert.equal(await read(log), "whole\nafter\n");
});

Deno.test("what cannot be written is counted, and the log says so when it can be", async () => {
  await using at = await place();
  using log = openLog(`${at.directory}/log`);
  // The first write opens the file: without its directory it fails, as it would on a full disk.
  await Deno.remove(`${at.directory}/log`);
  log.append("stdout", bytes("lost\n"));
  log.append("stdout", bytes("lost too\n"));
  assert.equal(log.lostBytes, 14);
  await Deno.mkdir(`${at.directory}/log`);
  log.append("stdout", bytes("kept\n"));
  const said = await read(log);
  assert.match(said, /^quasaur: 14 bytes of output could not be kept here[^\n]*\nkept\n$/);
  assert.equal(log.lostBytes, 14);
});

Deno.test("a full disk stops nothing", async () => {
  await using at = await place();
  await mount("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", at.directory);
  try {
    using log = openLog(`${at.directory}/log`);
    for (let i = 0; i < 100; i++) log.append("stdout", bytes("x".repeat(4_000) + "\n"));
    assert.ok(log.lostBytes > 300_000, `${log.lostBytes}`);
    // What is kept is whole.
    const kept = await read(log);
    assert.ok(/^(x{4000}\n)+$/.test(kept), `${kept.length} characters`);
  } finally {
    await mount("umount", at.directory);
  }
});

async function mount(command: string, ...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(command, { args }).output();
  assert.ok(success, command);
}

Deno.test("who follows gets what is written later, to the end", async () => {
  await using at = await place();
  using log = openLog(at.directory, { fileBytesMax: () => 500 });
  log.append("stdout", bytes("before\n"));
  const all = read(log, { follow: true });
  for (let i = 0; i < 20; i++) {
    log.append("stdout", bytes(`line ${i}\n`));
    await new Promise((resolve) => setTimeout(resolve));
  }
  log.finish();
  const expected = ["before", ...Array.from({ length: 20 }, (_, i) => `line ${i}`), ""].join("\n");
  assert.equal(await all, expected);
});

Deno.test("who follows and leaves is not waited for", async () => {
  await using at = await place();
  using log = openLog(at.directory);
  const leave = new AbortController();
  const all = Array.fromAsync(readLog(log, { follow: true }, leave.signal));
  await new Promise((resolve) => setTimeout(resolve));
  leave.abort();
  assert.deepEqual(await all, []);
  assert.equal(log.readers, 0);
});

Deno.test("a client that is slow makes its container wait, and loses nothing", async () => {
  await using at = await place();
  using log = openLog(at.directory, { fileBytesMax: () => 500 });
  using reader = log.reader(log.end, true);
  const output = followOutput(log, reader, NEVER);
  const written = (async () => {
    for (let i = 0; i < 60; i++) {
      await log.room();
      log.append("stdout", bytes(`line ${i}\n`));
    }
    log.finish();
  })();
  // Long enough for all of it, if nobody waited.
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal(log.ended, false);
  const heard: string[] = [];
  for await (const { bytes } of output) heard.push(new TextDecoder().decode(bytes));
  await written;
  assert.equal(heard.join(""), Array.from({ length: 60 }, (_, i) => `line ${i}\n`).join(""));
});

Deno.test("a client that is stuck is cut off with a clear message, and waited for no longer", async () => {
  await using at = await place();
  using log = openLog(at.directory, { fileBytesMax: () => 500, stuckMs: 100 });
  using reader = log.reader(log.end, true);
  for (let i = 0; i < 60; i++) {
    await log.room();
    log.append("stdout", bytes(`line ${i}\n`));
  }
  await assert.rejects(
    Array.fromAsync(followOutput(log, reader, NEVER)),
    {
      code: "DataLoss",
      message: /container "a": more was written than is kept before this client/,
    },
  );
});

Deno.test("somebody who only reads the log is not waited for", async () => {
  await using at = await place();
  using log = openLog(at.directory, { fileBytesMax: () => 500 });
  using reader = log.reader(log.begin, false);
  for (let i = 0; i < 60; i++) {
    await log.room();
    log.append("stdout", bytes(`line ${i}\n`));
  }
  assert.throws(() => reader.read(), { code: "DataLoss" });
});

Deno.test("all logs together are bounded: the more there are, the smaller each is", async () => {
  await using at = await place();
  using logs = new DisposableStack();
  const budget = new LogBudget(1 << 20);
  const alone = budget.fileBytesMax;
  for (let i = 0; i < 4; i++) {
    const directory = `${at.directory}/${i}`;
    const log = logs.use(openLog(directory, { fileBytesMax: () => budget.fileBytesMax }));
    budget.add(log);
    for (let j = 0; j < 300; j++) log.append("stdout", bytes("x".repeat(4_000) + "\n"));
  }
  assert.ok(budget.fileBytesMax < alone);
  let total = 0;
  for (let i = 0; i < 4; i++) {
    for (const name of await files(`${at.directory}/${i}`)) {
      total += (await Deno.stat(`${at.directory}/${i}/${name}`)).size;
    }
  }
  assert.ok(total < 2 << 20, `${total}`);
});
