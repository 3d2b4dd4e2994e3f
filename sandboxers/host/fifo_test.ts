import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";
import { FifoSink, FifoSource } from "./fifo.ts";
import { openSink, openSource } from "./fifo_or_file.ts";
import { ReadableSource, WritableSink } from "./file_ends.ts";

/** A FIFO in a directory that is removed with it. */
function makeFifo(): { readonly path: string } & Disposable {
  const directory = Deno.makeTempDirSync({ prefix: "quasaur-fifo-" });
  const path = `${directory}/fifo`;
  const { success } = new Deno.Command("mkfifo", { args: [path] }).outputSync();
  assert.ok(success);
  return { path, [Symbol.dispose]: () => Deno.removeSync(directory, { recursive: true }) };
}

async function writeAll(sink: ByteSink, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await sink.write(bytes.subarray(at));
}

async function readAll(source: ByteSource): Promise<Uint8Array> {
  const pieces: number[] = [];
  const buffer = new Uint8Array(10_000);
  for (;;) {
    const count = await source.read(buffer);
    if (count === null || count === 0) return Uint8Array.from(pieces);
    pieces.push(...buffer.subarray(0, count));
  }
}

/** Waits a while. */
const aWhile = () => new Promise((done) => setTimeout(done, 60));

function isError(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof SandboxError && error.code === code && message.test(error.message);
}

Deno.test("fifo: an output waits for its reader, and nothing is lost", async () => {
  using fifo = makeFifo();
  using sink = openSink(fifo.path, "stdout");
  assert.equal(sink.hadReader, false);
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const writing = writeAll(sink, bytes).then(() => sink.close());
  await aWhile();
  const reader = await Deno.open(fifo.path, { read: true });
  const read = await new Response(reader.readable).bytes();
  await writing;
  assert.deepEqual(read, bytes);
});

Deno.test("fifo: an output that is read slowly loses nothing and fills up without blocking", async () => {
  using fifo = makeFifo();
  using source = new FifoSource(fifo.path, "the reader");
  using sink = new FifoSink(fifo.path, "stdout");
  source.letEnd();
  assert.equal(sink.hadReader, true);
  const bytes = Uint8Array.from({ length: 300_001 }, (_, i) => i * 7 % 251);
  const writing = writeAll(sink, bytes).then(() => sink.close());
  await aWhile();
  assert.deepEqual(await readAll(source), bytes);
  await writing;
});

Deno.test("fifo: what a reader had not read is there for the next one", async () => {
  using fifo = makeFifo();
  const first = new FifoSource(fifo.path, "the first reader");
  using sink = new FifoSink(fifo.path, "stdout");
  await writeAll(sink, new TextEncoder().encode("one "));
  first[Symbol.dispose]();
  const writing = writeAll(sink, new TextEncoder().encode("two"));
  await aWhile();
  using second = new FifoSource(fifo.path, "the second reader");
  await writing;
  await sink.close();
  second.letEnd();
  assert.equal(new TextDecoder().decode(await readAll(second)), "one two");
});

Deno.test("fifo: a write that waits can be given up", async () => {
  using fifo = makeFifo();
  const sink = new FifoSink(fifo.path, "stdout");
  const writing = sink.write(new Uint8Array(1));
  assert.ok(writing instanceof Promise);
  sink[Symbol.dispose]();
  await assert.rejects(writing, isError("Cancelled", /cannot write stdout: it was closed/));
});

Deno.test("fifo: an input ends when it is let and all writers are gone, not before", async () => {
  using fifo = makeFifo();
  using source = openSource(fifo.path, "stdin");
  const reading = readAll(source);
  const writer = await Deno.open(fifo.path, { write: true });
  await writer.write(new Uint8Array([1, 2]));
  writer.close();
  await aWhile();
  const another = await Deno.open(fifo.path, { write: true });
  source.letEnd();
  await another.write(new Uint8Array([3]));
  await aWhile();
  another.close();
  assert.deepEqual(await reading, new Uint8Array([1, 2, 3]));
});

Deno.test("fifo: a read that waits can be given up", async () => {
  using fifo = makeFifo();
  const source = new FifoSource(fifo.path, "stdin");
  const reading = source.read(new Uint8Array(1));
  assert.ok(reading instanceof Promise);
  source[Symbol.dispose]();
  assert.equal(await reading, null);
});

Deno.test("fifo: what cannot be opened is said", () => {
  using fifo = makeFifo();
  const directory = fifo.path.slice(0, fifo.path.lastIndexOf("/"));
  const missing = `${directory}/missing`;
  assert.throws(
    () => openSink(missing, "stdout"),
    isError("NotFound", /cannot open stdout ".*missing"/),
  );
  assert.throws(() => openSource(missing, "stdin"), isError("NotFound", /it is not there/));
  assert.throws(() => openSource(directory, "stdin"), isError("InvalidArgument", /a directory/));
});

Deno.test("fifo: a plain file is read from its start and appended to", async () => {
  const path = await Deno.makeTempFile({ prefix: "quasaur-file-" });
  try {
    await Deno.writeTextFile(path, "before ");
    {
      using sink = openSink(path, "stdout");
      await writeAll(sink, new TextEncoder().encode("after"));
      await sink.close();
    }
    using source = openSource(path, "stdin");
    assert.equal(new TextDecoder().decode(await readAll(source)), "before after");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("streams: a writable takes copies, and its end", async () => {
  const got: Uint8Array[] = [];
  let closed = false;
  using sink = new WritableSink(
    new WritableStream({
      write: (chunk) => void got.push(chunk),
      close: () => void (closed = true),
    }),
    "stdout",
  );
  const bytes = new Uint8Array([1, 2]);
  await sink.write(bytes);
  bytes.fill(9);
  await sink.close();
  assert.deepEqual(got, [new Uint8Array([1, 2])]);
  assert.equal(closed, true);
});

Deno.test("streams: a write to a stream that nobody reads can be given up", async () => {
  const sink = new WritableSink(
    new WritableStream({ write: () => new Promise(() => {}) }),
    "stdout",
  );
  const writing = sink.write(new Uint8Array(1));
  sink[Symbol.dispose]();
  await assert.rejects(Promise.race([writing, aWhile().then(() => assert.fail("still waits"))]));
});

Deno.test("streams: a readable is read in pieces that fit, and let go", async () => {
  let cancelled = false;
  const source = new ReadableSource(
    new ReadableStream({
      start: (controller) => controller.enqueue(new Uint8Array([1, 2, 3])),
      cancel: () => void (cancelled = true),
    }),
  );
  const two = new Uint8Array(2);
  assert.equal(await source.read(two), 2);
  assert.equal(await source.read(two), 1);
  assert.equal(two[0], 3);
  const waiting = source.read(two);
  source[Symbol.dispose]();
  assert.equal(await waiting, null);
  assert.equal(cancelled, true);
});
