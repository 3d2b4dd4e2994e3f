import assert from "node:assert/strict";
import { PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import type { Cri } from "./support/cri.ts";
import { leaks, snapshot } from "./support/leaks.ts";
import { waitFor } from "./support/wait.ts";

const test = bedTests(wasmTarget.bed, (bed) => wasmTarget.importImages(bed));

/** Random bytes, at most 65536. */
function noise(size: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(size));
}

/** A ttrpc header: length, stream, type, flags. */
function ttrpcHeader(
  length: number,
  stream: number,
  type: number,
  flags = 0,
): Uint8Array<ArrayBuffer> {
  const header = new DataView(new ArrayBuffer(10));
  header.setUint32(0, length);
  header.setUint32(4, stream);
  header.setUint8(8, type);
  header.setUint8(9, flags);
  return new Uint8Array(header.buffer);
}

/** An HTTP/2 frame header: length, type, flags, stream. */
function http2Header(length: number, type: number, stream: number): Uint8Array<ArrayBuffer> {
  const header = new DataView(new ArrayBuffer(9));
  header.setUint8(0, length >> 16);
  header.setUint16(1, length & 0xffff);
  header.setUint8(3, type);
  header.setUint32(5, stream);
  return new Uint8Array(header.buffer);
}

const HTTP2_PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** What is sent to each socket, by name. */
const TTRPC_ATTACKS: readonly (readonly [string, readonly Uint8Array<ArrayBuffer>[]])[] = [
  ["noise", [noise(4096)]],
  ["half a header", [ttrpcHeader(100, 1, 1).slice(0, 5)]],
  ["a frame cut short", [ttrpcHeader(1000, 1, 1), noise(10)]],
  ["a frame that says it is 4 GiB", [ttrpcHeader(0xffffffff, 1, 1), noise(1000)]],
  ["a frame of noise", [ttrpcHeader(1000, 1, 1), noise(1000)]],
  ["a frame of no known type", [ttrpcHeader(0, 1, 77)]],
  ["an even stream", [ttrpcHeader(0, 2, 1)]],
  ["data for a stream that is not open", [ttrpcHeader(4, 9, 3), noise(4)]],
  ["nothing", []],
];

const GRPC_ATTACKS: readonly (readonly [string, readonly Uint8Array<ArrayBuffer>[]])[] = [
  ["noise", [noise(4096)]],
  ["half a preface", [HTTP2_PREFACE.slice(0, 10)]],
  ["noise after the preface", [HTTP2_PREFACE, noise(4096)]],
  ["a frame cut short", [HTTP2_PREFACE, http2Header(1000, 1, 1), noise(10)]],
  ["a frame that says it is 16 MiB", [HTTP2_PREFACE, http2Header(0xffffff, 0, 1), noise(1000)]],
  ["HTTP/1.1", [new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n")]],
  ["nothing", []],
];

/** Sends some bytes on a connection of its own, and closes it. */
async function send(path: string, chunks: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
  using connection = await Deno.connect({ transport: "unix", path });
  try {
    for (const chunk of chunks) await connection.write(chunk);
    await Promise.race([
      connection.read(new Uint8Array(4096)),
      new Promise((resolve) => setTimeout(resolve, 50)),
    ]);
  } catch {
    // The server may close as soon as it has seen enough.
  }
}

/** Attacks a socket, and expects a pod that runs meanwhile not to notice. */
async function expectUndisturbed(
  bed: Bed,
  cri: Cri,
  attack: () => Promise<void>,
): Promise<void> {
  await using pod = await cri.runPod({ handler: wasmTarget.handler });
  const container = await pod.startContainer({ image: WASM_IMAGE, command: ["/sleep.wasm"] });
  await container.printed("sleeping");
  const { pid } = bed.sandboxer("wasm").process;
  const before = await snapshot({ pid });
  await attack();
  assert.ok(bed.sandboxer("wasm").process.running, "the sandboxer still runs");
  assert.equal(await container.state(), "RUNNING");
  assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
  const hello = { name: "hello", image: WASM_IMAGE, command: ["/hello.wasm"] };
  assert.deepEqual((await pod.runContainer(hello)).stdout, ["hello from wasm"]);
  await waitFor("the connections to be closed", async () => {
    const found = leaks(before, await snapshot({ pid }));
    const sockets = found.filter((line) => line.includes("socket:"));
    if (sockets.length > 0) throw new Error(sockets.join("\n"));
    return true;
  });
}

for (const [name, chunks] of TTRPC_ATTACKS) {
  test(`the task socket survives ${name}`, async ({ bed, cri }) => {
    const { taskSocketPath } = bed.sandboxer("wasm").paths;
    await expectUndisturbed(bed, cri, () => send(taskSocketPath, chunks));
  });
}

for (const [name, chunks] of GRPC_ATTACKS) {
  test(`the controller socket survives ${name}`, async ({ bed, cri }) => {
    const { socketPath } = bed.sandboxer("wasm").paths;
    await expectUndisturbed(bed, cri, () => send(socketPath, chunks));
  });
}

test("500 connections at once that say nothing are survived", async ({ bed, cri }) => {
  const { socketPath, taskSocketPath } = bed.sandboxer("wasm").paths;
  await expectUndisturbed(bed, cri, async () => {
    const opened = await Promise.all(
      Array.from({ length: 500 }, (_, index) => {
        const path = index % 2 === 0 ? socketPath : taskSocketPath;
        return Deno.connect({ transport: "unix", path });
      }),
    );
    await using pod = await cri.runPod({ handler: wasmTarget.handler });
    await pod.runContainer({ image: WASM_IMAGE, command: ["/hello.wasm"] });
    for (const connection of opened) connection.close();
  });
});
