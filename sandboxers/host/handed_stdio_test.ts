import assert from "node:assert/strict";
import type { StdioSpec, StreamSpec } from "../lifecycle/spec.ts";
import { noLog } from "../log.ts";
import { FifoHolder, type FifoKeeper } from "./fifo_holder.ts";
import { HandedStdio } from "./handed_stdio.ts";
import { launcherError } from "./launcher_errors.ts";
import { assertFails, launcher, until } from "./testing/fixture.ts";
import { Directory, feed, Reader } from "./testing/streams.ts";

const NOTHING: StreamSpec = { kind: "null" };

/** Says which descriptors a shell has, the first of all. */
const LIST_OPEN = `for n in ${[...Array(40).keys()].join(" ")}; do
  test -e /proc/$$/fd/$n && printf '%s ' $n; done`;

function stdio(streams: Partial<StdioSpec>): StdioSpec {
  return { stdin: NOTHING, stdout: NOTHING, stderr: NOTHING, terminal: false, ...streams };
}

function at(path: string): StreamSpec {
  return { kind: "path", path };
}

async function options(place: Directory, keeper?: FifoKeeper) {
  const [directory, socketDirectory] = [await place.directory(), place.path];
  return { launcher, directory, socketDirectory, label: 'container "a"', keeper, log: noLog };
}

/** Runs a shell with the streams; they are handed over when this returns. */
async function shell(handed: HandedStdio, script: string): Promise<Deno.ChildProcess> {
  const { command, args } = handed.command("/bin/sh", ["-c", script]);
  const child = new Deno.Command(command, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  // They end when the program begins: it has none of these.
  const [, said] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  assert.equal(said, "");
  handed.begun();
  return child;
}

/** Whether something has not happened after a moment in which it could have. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const late = new Promise((resolve) => setTimeout(() => resolve("late"), 100));
  return await Promise.race([promise, late]) === "late";
}

Deno.test("handed stdio: a program has the FIFOs of its client, and nothing else", async () => {
  await using place = await Directory.make();
  const [input, output, errors] = [await place.fifo(), await place.fifo(), await place.fifo()];
  using out = new Reader(output);
  using err = new Reader(errors);
  await using handed = await HandedStdio.open(
    stdio({ stdin: at(input), stdout: at(output), stderr: at(errors) }),
    await options(place),
  );
  const child = await shell(handed, `cat; ${LIST_OPEN}; echo late >&2; exit 5`);
  await feed(input, "hello\n");
  await out.until(/hello\n/);
  await handed.closeStdin();
  assert.equal((await child.status).code, 5);
  await handed.finished("exited");
  assert.equal(await out.rest(), "hello\n0 1 2 ");
  assert.equal(await err.rest(), "late\n");
});

Deno.test("handed stdio: the input ends when it may and its client has closed it", async () => {
  await using place = await Directory.make();
  const [input, output] = [await place.fifo(), await place.fifo()];
  using out = new Reader(output);
  const spec = stdio({ stdin: at(input), stdout: at(output) });
  await using handed = await HandedStdio.open(spec, await options(place));
  const child = await shell(handed, "cat; echo end");
  // A client that detaches is not the end, and the next one may take its time.
  await feed(input, "one ");
  await feed(input, "two ");
  await out.until(/one two /);
  const client = await Deno.open(input, { write: true });
  await handed.closeStdin();
  const ended = child.status;
  assert.ok(await isPending(ended));
  await client.write(new TextEncoder().encode("three "));
  client.close();
  assert.equal((await ended).code, 0);
  assert.equal(await out.rest(), "one two three end\n");
});

Deno.test("handed stdio: what is written before somebody reads is kept", async () => {
  await using place = await Directory.make();
  const [input, output] = [await place.fifo(), await place.fifo()];
  const spec = stdio({ stdin: at(input), stdout: at(output) });
  await using handed = await HandedStdio.open(spec, await options(place));
  const child = await shell(handed, "echo early; echo done >&2; read x; echo $x");
  {
    using first = new Reader(output);
    await first.until(/early\n/);
  }
  // Nobody reads now: writing is no error.
  await feed(input, "again\n");
  assert.ok((await child.status).success);
});

Deno.test("handed stdio: an input stays open over a restart of the sandboxer", async () => {
  await using place = await Directory.make();
  const [input, output] = [await place.fifo(), await place.fifo()];
  using out = new Reader(output);
  await using holders = new AsyncDisposableStack();
  const holder = async () => {
    const started = await FifoHolder.start({ launcher, dir: place.path, log: noLog });
    holders.defer(() => started.stop());
    return started;
  };
  const first = await holder();
  let isKilled = false;
  const keeper: FifoKeeper = {
    hold: (path, end) => first.hold(path, end),
    letGo: (path, end) => isKilled ? undefined : first.letGo(path, end),
  };
  const spec = stdio({ stdin: at(input), stdout: at(output) });
  const opened = await options(place, keeper);
  const earlier = await HandedStdio.open(spec, opened);
  const child = await shell(earlier, "cat; echo end");
  const { record } = earlier;
  await first.holdNow();
  await until("the holder has it", () => holds(place.path, input));
  // Its process is gone: its descriptors are closed, and nobody has told the holder.
  isKilled = true;
  await earlier[Symbol.asyncDispose]();
  const ended = child.status;
  assert.ok(await isPending(ended));
  const second = await holder();
  const again = { ...opened, keeper: second };
  await using later = HandedStdio.adopt(spec, JSON.parse(JSON.stringify(record)), again);
  await second.tookOver();
  await feed(input, "still ");
  await out.until(/still /);
  await later.closeStdin();
  assert.ok((await ended).success);
  assert.equal(await out.rest(), "still end\n");
});

/** Whether the holder that is noted in a directory has a FIFO open. */
async function holds(directory: string, fifo: string): Promise<boolean> {
  const [noted] = JSON.parse(await Deno.readTextFile(`${directory}/fifo-holder.json`));
  for await (const { name } of Deno.readDir(`/proc/${noted.pid}/fd`)) {
    if (await Deno.readLink(`/proc/${noted.pid}/fd/${name}`) === fifo) return true;
  }
  return false;
}

Deno.test("handed stdio: an input that was to end is not held again", async () => {
  await using place = await Directory.make();
  const input = await place.fifo();
  const spec = stdio({ stdin: at(input) });
  const opened = await options(place);
  const earlier = await HandedStdio.open(spec, opened);
  const child = await shell(earlier, "cat");
  const client = await Deno.open(input, { write: true });
  await earlier.closeStdin();
  await using _later = HandedStdio.adopt(spec, earlier.record, opened);
  await earlier[Symbol.asyncDispose]();
  client.close();
  assert.ok((await child.status).success);
});

Deno.test("handed stdio: files are read from their start and appended to", async () => {
  await using place = await Directory.make();
  const [input, output] = [place.file(), place.file()];
  await Deno.writeTextFile(input, "from a file\n");
  await Deno.writeTextFile(output, "before\n");
  const spec = stdio({ stdin: at(input), stdout: at(output), stderr: at(output) });
  await using handed = await HandedStdio.open(spec, await options(place));
  const child = await shell(handed, "cat; echo error >&2");
  assert.ok((await child.status).success);
  assert.equal(await Deno.readTextFile(output), "before\nfrom a file\nerror\n");
});

Deno.test("handed stdio: refuses what cannot be a stream, before anything runs", async () => {
  await using place = await Directory.make();
  const opened = await options(place);
  const missing = stdio({ stdout: at(`${place.path}/missing`) });
  await assertFails(
    HandedStdio.open(missing, opened),
    "NotFound",
    /^cannot open stdout of container "a" ".*missing": it is not there$/,
  );
  await assertFails(
    HandedStdio.open(stdio({ stdin: at(place.path) }), opened),
    "InvalidArgument",
    /it is a directory$/,
  );
  await assertFails(
    HandedStdio.open(stdio({ stdin: { kind: "fd", fd: 7 } }), opened),
    "InvalidArgument",
    /^cannot use descriptor 7 for stdin of container "a": expected/,
  );
});

Deno.test("handed stdio: the launcher says what failed, and not to the process's client", async () => {
  await using place = await Directory.make();
  const file = place.file();
  await Deno.writeTextFile(file, "");
  const cases: readonly (readonly [string[], string, RegExp])[] = [
    [["-", file, file, "--", "/no/such"], "FailedPrecondition", /"\/no\/such": no such program/],
    [["-", file, file, "--", "sh"], "InvalidArgument", /absolute path of a program/],
    [["-", "out", file, "--", "/bin/sh"], "InvalidArgument", /stdout "out": expected an absolute/],
    [["-", `${file}.x`, file, "--", "/bin/sh"], "NotFound", /cannot open stdout/],
    [["-", place.path, file, "--", "/bin/sh"], "InvalidArgument", /it is a directory/],
  ];
  for (const [args, code, message] of cases) {
    const { code: status, stderr } = await new Deno.Command(launcher.path, {
      args: ["stdio", ...args],
    }).output();
    const error = launcherError("cannot", {
      code: status,
      stderr: new TextDecoder().decode(stderr),
    });
    assert.equal(error.code, code);
    assert.match(error.message, message);
  }
  assert.equal(await Deno.readTextFile(file), "");
});

Deno.test("handed stdio: streams of this process go through FIFOs of our own", async () => {
  await using place = await Directory.make();
  const texts = { out: "", err: "" };
  const collect = (name: keyof typeof texts) =>
    new WritableStream<Uint8Array>({
      write: (bytes) => void (texts[name] += new TextDecoder().decode(bytes)),
    });
  const opened = await options(place);
  await using handed = await HandedStdio.open(
    stdio({
      stdin: { kind: "readable", readable: new Blob(["x".repeat(200_000)]).stream() },
      stdout: { kind: "writable", writable: collect("out") },
      stderr: { kind: "writable", writable: collect("err") },
    }),
    opened,
  );
  const child = await shell(handed, "cat; echo error >&2");
  assert.ok((await child.status).success);
  await handed.finished("exited");
  assert.deepEqual(texts, { out: "x".repeat(200_000), err: "error\n" });
});

Deno.test("handed stdio: an input of this process ends when it is told to", async () => {
  await using place = await Directory.make();
  const { readable, writable } = new TransformStream<Uint8Array>();
  const spec = stdio({ stdin: { kind: "readable", readable } });
  await using handed = await HandedStdio.open(spec, await options(place));
  const child = await shell(handed, "cat");
  const writer = writable.getWriter();
  writer.closed.catch(() => undefined);
  await writer.write(new TextEncoder().encode("text"));
  await handed.closeStdin();
  assert.ok((await child.status).success);
});
