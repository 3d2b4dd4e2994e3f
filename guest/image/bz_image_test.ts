import assert from "node:assert/strict";
import { extractKernel } from "./bz_image.ts";
import { runTool } from "./tool.ts";

const KERNEL = new TextEncoder().encode("kernel ".repeat(1000));

/** A bzImage with two set-up sectors and the kernel behind some code of its own. */
async function bzImage(compress: readonly [string, ...string[]], claimed = KERNEL.length) {
  const payload = await runTool(compress, { input: KERNEL, package: compress[0] });
  const offset = 100;
  const begin = 3 * 512 + offset;
  const image = new Uint8Array(begin + payload.length + 4 + 50);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 2);
  image.set(new TextEncoder().encode("HdrS"), 0x202);
  view.setUint16(0x206, 0x020f, true);
  view.setUint32(0x248, offset, true);
  view.setUint32(0x24c, payload.length + 4, true);
  image.set(payload, begin);
  view.setUint32(begin + payload.length, claimed, true);
  return image;
}

for (const compress of [["gzip", "-c"], ["xz", "-c", "--check=crc32"], ["zstd", "-cq"]] as const) {
  Deno.test(`a kernel compressed by ${compress[0]} is extracted`, async () => {
    assert.deepEqual(await extractKernel(await bzImage(compress)), KERNEL);
  });
}

Deno.test("a kernel that comes out too short or too long is refused", async () => {
  const image = await bzImage(["gzip", "-c"], KERNEL.length + 1);
  await assert.rejects(extractKernel(image), /7000 bytes came out, expected 7001/);
});

Deno.test("what is cut off, damaged or no kernel is refused", async () => {
  const image = await bzImage(["gzip", "-c"]);
  await assert.rejects(extractKernel(image.subarray(0, 0x240)), /not a bzImage/);
  await assert.rejects(extractKernel(image.subarray(0, image.length - 55)), /cut off or damaged/);
  await assert.rejects(extractKernel(new Uint8Array(5000)), /not a bzImage/);
  const unknown = image.slice();
  unknown.fill(0xee, 3 * 512 + 100, 3 * 512 + 110);
  await assert.rejects(extractKernel(unknown), /unknown compression .* ee ee ee ee/);
  const broken = image.slice();
  broken.fill(0, 3 * 512 + 120, 3 * 512 + 130);
  await assert.rejects(extractKernel(broken), /cannot (run "gzip|decompress)/);
});
