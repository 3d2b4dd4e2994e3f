import assert from "node:assert/strict";
import { FLAG } from "./frames.ts";
import { WIDE_WINDOW_BYTES } from "./limits.ts";
import { OutboundEnd, type OutboundShare } from "./outbound_stream.ts";

Deno.test("outbound stream: buffers are used again, and let go when nothing is on the way", () => {
  const share: OutboundShare = {
    retainedBytes: 0,
    retainedBytesMax: 4 << 20,
    sendsWide: true,
    spare: [],
    starved: new Set(),
    wake: () => undefined,
    resetHere: () => undefined,
  };
  const stream = new OutboundEnd(1, share, false);
  const fill = () => {
    let bytes = 0;
    for (let room = stream.reserve(); room !== undefined; room = stream.reserve()) {
      stream.commit(room.length);
      bytes += room.length;
      while (stream.nextFrame() !== undefined);
    }
    return bytes;
  };
  stream.window({ consumed: 0, received: 0, bytes: WIDE_WINDOW_BYTES }, FLAG.resume);
  const sent = fill();
  assert.equal(sent, WIDE_WINDOW_BYTES);
  assert.ok(share.retainedBytes >= sent);
  stream.window({ consumed: sent, received: sent, bytes: WIDE_WINDOW_BYTES }, 0);
  assert.equal(share.retainedBytes, 0);
  const spare = new Set(share.spare);
  assert.ok(spare.size > 1);
  assert.equal(fill(), WIDE_WINDOW_BYTES);
  assert.ok(share.spare.length < spare.size);
  const all = 2 * sent;
  stream.end();
  while (stream.nextFrame() !== undefined);
  stream.window({ consumed: all, received: all, bytes: WIDE_WINDOW_BYTES }, 0);
  stream.closeFromThere(true, "");
  assert.equal(share.retainedBytes, 0);
  assert.equal(share.spare.length, 1);
});
