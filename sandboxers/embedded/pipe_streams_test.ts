import assert from "node:assert/strict";
import { DEFAULT_LIBRARY_PATH } from "../wasm/native/library.ts";
import { System } from "../wasm/native/system.ts";
import { readPipe, writePipe } from "./pipe_streams.ts";

const system = new System(DEFAULT_LIBRARY_PATH);

/** A pipe with a stream at either end. */
function pipeOfStreams() {
  const [readEnd, writeEnd] = system.pipe();
  return { reader: readPipe(readEnd, "the pipe"), writer: writePipe(writeEnd, "the pipe") };
}

function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff;
  return bytes;
}

async function readAll(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
  return await new Response(stream).bytes();
}

/** How many bytes a writer gets rid of before it has to wait. */
async function writeUntilItWaits(
  stream: WritableStreamDefaultWriter<Uint8Array>,
): Promise<{ readonly written: number; readonly waiting: Promise<void> }> {
  const chunk = pattern(16_384);
  for (let written = 0;; written += chunk.length) {
    const waiting = stream.write(chunk);
    waiting.catch(() => undefined);
    const { promise: pause, resolve } = Promise.withResolvers<"pause">();
    const timer = setTimeout(() => resolve("pause"), 200);
    const first = await Promise.race([waiting.then(() => "written"), pause]);
    clearTimeout(timer);
    if (first === "pause") return { written, waiting };
    assert.ok(written < 10_000_000, "the writer never has to wait");
  }
}

Deno.test("a pipe carries ten megabytes without losing or changing a byte", async () => {
  const { reader, writer } = pipeOfStreams();
  const sent = pattern(10_000_000);
  const received = readAll(reader.stream);
  const output = writer.stream.getWriter();
  for (let offset = 0; offset < sent.length; offset += 77_777) {
    await output.write(sent.subarray(offset, offset + 77_777));
  }
  await output.close();
  assert.deepEqual(await received, sent);
});

Deno.test("a pipe keeps what was written before its end for a late reader", async () => {
  const { reader, writer } = pipeOfStreams();
  const output = writer.stream.getWriter();
  await output.write(pattern(60_000));
  await output.close();
  assert.deepEqual(await readAll(reader.stream), pattern(60_000));
});

Deno.test("a pipe that is closed without a byte ends at once", async () => {
  const { reader, writer } = pipeOfStreams();
  await writer.stream.close();
  assert.equal((await readAll(reader.stream)).length, 0);
});

Deno.test("a chunk that was read does not change when more is read", async () => {
  const { reader, writer } = pipeOfStreams();
  const output = writer.stream.getWriter();
  const input = reader.stream.getReader();
  await output.write(new Uint8Array([1, 2, 3]));
  const first = await input.read();
  await output.write(new Uint8Array([4, 5, 6]));
  await input.read();
  assert.deepEqual(first.value, new Uint8Array([1, 2, 3]));
  await output.close();
  assert.equal((await input.read()).done, true);
});

Deno.test("a writer waits while nobody reads, and goes on when somebody does", async () => {
  const { reader, writer } = pipeOfStreams();
  const output = writer.stream.getWriter();
  const { written, waiting } = await writeUntilItWaits(output);
  assert.ok(written <= 1_000_000, `${written} bytes were taken without a reader`);
  const received = readAll(reader.stream);
  await waiting;
  await output.close();
  assert.equal((await received).length, written + 16_384);
});

Deno.test("cancelling a reader that waits breaks the pipe for the writer", async () => {
  const { reader, writer } = pipeOfStreams();
  const input = reader.stream.getReader();
  const pending = input.read();
  await input.cancel();
  assert.equal((await pending).done, true);
  const output = writer.stream.getWriter();
  output.closed.catch(() => undefined);
  await assert.rejects(
    async () => {
      for (let i = 0; i < 100; i++) await output.write(pattern(1000));
    },
    { code: "FailedPrecondition", message: "cannot write the pipe: nobody reads it any more" },
  );
});

Deno.test("aborting a writer that waits for a full pipe does not wait for it", async () => {
  const { reader, writer } = pipeOfStreams();
  const output = writer.stream.getWriter();
  output.closed.catch(() => undefined);
  await writeUntilItWaits(output);
  await output.abort(new Error("enough"));
  reader[Symbol.dispose]();
});

Deno.test("disposing of both ends lets go of everything, read or not", async () => {
  const { reader, writer } = pipeOfStreams();
  const output = writer.stream.getWriter();
  output.closed.catch(() => undefined);
  await writeUntilItWaits(output);
  writer[Symbol.dispose]();
  reader[Symbol.dispose]();
  await assert.rejects(readAll(reader.stream), {
    code: "FailedPrecondition",
    message: "cannot read the pipe: it was closed",
  });
  await assert.rejects(output.closed, { code: "FailedPrecondition" });
});
