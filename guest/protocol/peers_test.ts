import assert from "node:assert/strict";
import {
  DATA_BYTES_MAX,
  FLAG,
  FRAME,
  openingFrame,
  WIDE_DATA_BYTES_MAX,
  windowFrame,
} from "./frames.ts";
import {
  FRAME_BYTES_MAX,
  GUEST_MESSAGE_BYTES_MAX,
  HOST_MESSAGE_BYTES_MAX,
  STREAM_WINDOW_BYTES,
  WIDE_FRAME_BYTES_MAX,
  WIDE_WINDOW_BYTES,
} from "./limits.ts";
import type { RequestOutcome } from "./host_peer.ts";
import { PROTOCOL_VERSION, type RequestName } from "./messages.ts";
import type { InboundStream, OutboundStream, RequestHandlers } from "./peer.ts";
import {
  Chance,
  Collector,
  Link,
  QueueTransport,
  refuse,
  TestGuest,
  TestHost,
} from "./testing/link.ts";

interface World {
  readonly chance: Chance;
  readonly guest: TestGuest;
  readonly link: Link;
  readonly host: TestHost;
}

/** A guest and a host that have found each other. */
async function world(handlers: RequestHandlers = {}, seed = 1): Promise<World> {
  const chance = new Chance(seed);
  const guest = new TestGuest(handlers);
  const link = new Link(guest, chance);
  const host = new TestHost(link.clock, chance);
  link.connect(host);
  await link.settle();
  assert.equal(host.peer.connected, true);
  assert.deepEqual(guest.connected, [false]);
  return { chance, guest, link, host };
}

/** Asks; the answer comes when the link has moved. */
function ask<K extends RequestName>(
  host: TestHost,
  op: K,
  args: Parameters<typeof host.peer.request<K>>[1],
): { outcome: RequestOutcome<K> | undefined } {
  const answer: { outcome: RequestOutcome<K> | undefined } = { outcome: undefined };
  assert.equal(host.peer.request(op, args, (outcome) => answer.outcome = outcome), undefined);
  return answer;
}

/** Opened, for sure. */
function opened<T>(stream: T | undefined): T {
  assert.ok(stream);
  return stream;
}

/** Sends bytes as fast as there is room, in pieces of random size, and then the end. */
function send(stream: OutboundStream, bytes: Uint8Array, chance: Chance, pieceMax = 40_000): void {
  let at = 0;
  const fill = () => {
    for (let room = stream.reserve(); room !== undefined; room = stream.reserve()) {
      const size = Math.min(room.length, bytes.length - at, 1 + chance.below(pieceMax));
      room.set(bytes.subarray(at, at + size));
      at += size;
      stream.commit(size);
      if (at === bytes.length) stream.end();
    }
  };
  stream.onWritable = fill;
  fill();
}

function assertSame(actual: readonly number[], expected: Uint8Array, about: string): void {
  assert.equal(actual.length, expected.length, `${about}: length`);
  assert.ok(expected.every((byte, i) => byte === actual[i]), `${about}: bytes`);
}

Deno.test("peers: requests are answered by result, failure or Unimplemented", async () => {
  const { link, host } = await world({
    pids: ({ container }) => Promise.resolve({ pids: [container.length] }),
    pause: refuse,
    resume: () => {
      throw new Error("broken");
    },
  });
  const pids = ask(host, "pids", { container: "four" });
  const pause = ask(host, "pause", { container: "a" });
  const resume = ask(host, "resume", { container: "a" });
  const update = ask(host, "update", { container: "a", resources: {} });
  await link.settle();
  assert.deepEqual(pids.outcome, { kind: "result", result: { pids: [4] } });
  assert.deepEqual(pause.outcome, {
    kind: "failure",
    failure: { code: "FailedPrecondition", message: "cannot do it: not now" },
  });
  assert.deepEqual(resume.outcome, {
    kind: "failure",
    failure: { code: "Internal", message: "Error: broken" },
  });
  assert.equal(update.outcome?.kind, "failure");
  assert.match(JSON.stringify(update.outcome), /Unimplemented/);
});

Deno.test("peers: arguments of a wrong type get InvalidArgument", async () => {
  const { link, host } = await world({ pids: () => ({ pids: [] }) });
  const wrong = ask(host, "pids", { container: "" });
  await link.settle();
  assert.deepEqual(wrong.outcome, {
    kind: "failure",
    failure: {
      code: "InvalidArgument",
      message: 'cannot do "pids": args.container is empty',
    },
  });
});

Deno.test("peers: a large config travels in parts, none larger than a frame", async () => {
  let got = "";
  const { link, host } = await world({
    update: ({ resources }) => {
      got = JSON.stringify(resources);
      return {};
    },
  });
  const resources = { text: "ü".repeat(3_000_000) };
  const answer = ask(host, "update", { container: "a", resources });
  await link.settle();
  assert.equal(answer.outcome?.kind, "result");
  assert.equal(got, JSON.stringify(resources));
  assert.ok((link.fromHost?.largestWrite ?? Infinity) <= FRAME_BYTES_MAX);
  const tooLarge = { text: "x".repeat(HOST_MESSAGE_BYTES_MAX) };
  const refused = host.peer.request("update", { container: "a", resources: tooLarge }, () => {});
  assert.match(refused ?? "", /at most 8388608 are possible/);
});

Deno.test("peers: an answer that is too large becomes a failure", async () => {
  const { link, host } = await world({
    pids: () => ({ pids: Array.from({ length: GUEST_MESSAGE_BYTES_MAX / 8 }, () => 1000000) }),
  });
  const answer = ask(host, "pids", { container: "a" });
  await link.settle();
  assert.match(JSON.stringify(answer.outcome), /ResourceExhausted/);
});

Deno.test("peers: streams carry bytes both ways, in wide frames from the guest only", async () => {
  const { link, host, guest, chance } = await world();
  const bytes = chance.bytes(700_000);
  const output = new Collector(opened(host.peer.openOutput(1, false)));
  const input = opened(host.peer.openInput(2, false));
  const atGuest = new Collector(guest.peer.openInput(2));
  const fromGuest = guest.peer.openOutput(1);
  let closed = 0;
  fromGuest.onClosed = input.onClosed = (reset) => {
    assert.equal(reset, undefined);
    closed++;
  };
  send(fromGuest, bytes, chance);
  send(input, bytes, chance);
  await link.settle();
  assertSame(output.bytes, bytes, "output");
  assertSame(atGuest.bytes, bytes, "input");
  assert.deepEqual([output.stream.ended, atGuest.stream.ended, closed], [true, true, 2]);
  assert.ok(link.fromGuest.largestWrite > FRAME_BYTES_MAX);
  assert.ok(link.fromGuest.largestWrite <= WIDE_FRAME_BYTES_MAX);
  assert.ok((link.fromHost?.largestWrite ?? Infinity) <= FRAME_BYTES_MAX);
  assert.equal(host.end, undefined);
});

Deno.test("peers: a consumer that does not consume stops the sender, with bounded memory", async () => {
  const { link, host, guest } = await world();
  const output = opened(host.peer.openOutput(1, false));
  const fromGuest = guest.peer.openOutput(1);
  let sent = 0;
  const fill = () => {
    for (let room = fromGuest.reserve(); room !== undefined; room = fromGuest.reserve()) {
      sent += room.length;
      fromGuest.commit(room.length);
    }
  };
  fromGuest.onWritable = fill;
  fill();
  await link.settle();
  assert.equal(sent, WIDE_WINDOW_BYTES);
  let got = 0;
  for (let piece = output.peek(); piece !== undefined; piece = output.peek()) {
    got += piece.length;
    output.consume(piece.length);
  }
  assert.equal(got, WIDE_WINDOW_BYTES);
  await link.settle();
  assert.equal(sent, 2 * WIDE_WINDOW_BYTES);
});

Deno.test("peers: one stream that stands still does not hold up another", async () => {
  const { link, host, guest, chance } = await world();
  opened(host.peer.openOutput(1, false));
  const moving = new Collector(opened(host.peer.openOutput(2, false)));
  const bytes = chance.bytes(600_000);
  send(guest.peer.openOutput(1), bytes, chance);
  send(guest.peer.openOutput(2), bytes, chance);
  await link.settle();
  assertSame(moving.bytes, bytes, "moving stream");
});

Deno.test("peers: a reset is told to the other side, in both directions", async () => {
  const { link, host, guest } = await world();
  const output = opened(host.peer.openOutput(1, false));
  const input = opened(host.peer.openInput(2, false));
  const fromGuest = guest.peer.openOutput(1);
  const atGuest = guest.peer.openInput(2);
  const ends: unknown[] = [];
  fromGuest.onClosed = (reset) => ends.push(reset);
  input.onClosed = (reset) => ends.push(reset);
  await link.settle();
  output.reset("nobody reads");
  atGuest.reset("the process has ended");
  await link.settle();
  assert.deepEqual(ends, [
    { remote: true, reason: "nobody reads" },
    { remote: true, reason: "the process has ended" },
  ]);
  assert.equal(fromGuest.reserve(), undefined);
  assert.equal(input.reserve(), undefined);
  assert.deepEqual(output.resetBy, { remote: false, reason: "nobody reads" });
});

Deno.test("peers: bytes that came before a reset can still be consumed", async () => {
  const { link, host, guest } = await world();
  const output = opened(host.peer.openOutput(1, false));
  const fromGuest = guest.peer.openOutput(1);
  opened(fromGuest.reserve()).set([1, 2, 3]);
  fromGuest.commit(3);
  await link.settle();
  fromGuest.reset("broken");
  await link.settle();
  assert.equal(output.resetBy?.remote, true);
  assert.deepEqual([...opened(output.peek())], [1, 2, 3]);
  output.consume(3);
  assert.equal(output.peek(), undefined);
});

Deno.test("peers: the guest keeps output while no host is there, up to the window", async () => {
  const chance = new Chance(1);
  const guest = new TestGuest();
  const stream = guest.peer.openOutput(1);
  let kept = 0;
  for (let room = stream.reserve(); room !== undefined; room = stream.reserve()) {
    kept += room.length;
    stream.commit(room.length);
  }
  assert.equal(kept, STREAM_WINDOW_BYTES);
  assert.equal(guest.peer.event({ kind: "oom", container: "a" }), false);
  const link = new Link(guest, chance);
  const host = new TestHost(link.clock, chance);
  link.connect(host);
  const output = new Collector(opened(host.peer.openOutput(1, true)));
  await link.settle();
  assert.equal(output.bytes.length, STREAM_WINDOW_BYTES);
});

Deno.test("peers: a host that gives a narrow window gets narrow frames", () => {
  const guest = new TestGuest();
  const sink = guest.peer.attach(new QueueTransport());
  const [nonce, session] = [new Uint8Array(8), new Uint8Array(8)];
  const opening = { nonce, session, protocol: PROTOCOL_VERSION, expected: 0 };
  sink.onBytes(openingFrame(FRAME.open, 0, opening));
  const rooms = (id: number, bytes: number) => {
    const stream = guest.peer.openOutput(id);
    sink.onBytes(windowFrame(id, FLAG.resume, { consumed: 0, received: 0, bytes }));
    const sizes: number[] = [];
    for (let room = stream.reserve(); room !== undefined; room = stream.reserve()) {
      sizes.push(room.length);
      stream.commit(room.length);
    }
    return { largest: Math.max(...sizes), all: sizes.reduce((sum, size) => sum + size) };
  };
  assert.deepEqual(rooms(1, STREAM_WINDOW_BYTES), {
    largest: DATA_BYTES_MAX,
    all: STREAM_WINDOW_BYTES,
  });
  assert.deepEqual(rooms(2, WIDE_WINDOW_BYTES), {
    largest: WIDE_DATA_BYTES_MAX,
    all: WIDE_WINDOW_BYTES,
  });
});

Deno.test("peers: a new host goes on with the streams of one that was killed", async () => {
  const { link, host, guest, chance } = await world();
  const bytes = chance.bytes(500_000);
  const first = new Collector(opened(host.peer.openOutput(1, false)));
  const input = opened(host.peer.openInput(2, false));
  const atGuest = new Collector(guest.peer.openInput(2));
  const fromGuest = guest.peer.openOutput(1);
  send(fromGuest, bytes, chance);
  opened(input.reserve()).set([1, 2, 3]);
  input.commit(3);
  for (let i = 0; i < 12; i++) await link.step();
  // Killed: nothing is told to it or by it.
  link.cut(500);
  const next = new TestHost(link.clock, chance);
  link.connect(next, true);
  const second = new Collector(opened(next.peer.openOutput(1, true)));
  const again = opened(next.peer.openInput(2, true));
  assert.equal(again.reserve(), undefined);
  again.onWritable = () => {
    opened(again.reserve()).set([4, 5]);
    again.commit(2);
    again.end();
  };
  await link.settle();
  assert.deepEqual(guest.connected, [false, false]);
  assert.equal(second.stream.ended, true);
  const begin = bytes.length - second.bytes.length;
  assertSame(second.bytes, bytes.subarray(begin), "second host");
  assert.ok(begin <= first.bytes.length, "nothing is lost between the two");
  assert.ok(first.bytes.length - begin <= WIDE_WINDOW_BYTES / 4, "little comes twice");
  assert.deepEqual(atGuest.bytes, [1, 2, 3, 4, 5]);
  assert.equal(atGuest.stream.ended, true);
});

Deno.test("peers: a new host that comes without a trace of the old one gets no old answers", async () => {
  const gate = Promise.withResolvers<{ readonly pids: readonly number[] }>();
  const { link, host, chance } = await world({ pids: () => gate.promise });
  ask(host, "pids", { container: "a" });
  await link.settle();
  link.cut();
  const next = new TestHost(link.clock, chance);
  link.connect(next, true);
  await link.settle();
  gate.resolve({ pids: [1] });
  await link.settle();
  assert.equal(next.end, undefined);
});

Deno.test("peers: adopting a stream that is not there resets it", async () => {
  const { link, host, guest } = await world();
  const output = opened(host.peer.openOutput(7, true));
  const input = opened(host.peer.openInput(8, true));
  const stdin = opened(host.peer.openInput(9, false));
  const atGuest = new Collector(guest.peer.openInput(9));
  send(stdin, new Uint8Array(5), new Chance(1));
  await link.settle();
  assert.match(output.resetBy?.reason ?? "", /stream 7 is over or was never there/);
  assert.match(input.resetBy?.reason ?? "", /stream 8 is over/);
  assert.equal(atGuest.stream.ended, true);
});

Deno.test("peers: a host that forgot a stream does not starve the others", async () => {
  const { link, host, guest, chance } = await world();
  // Nobody ever reads these; together they fill what the guest keeps.
  for (let id = 100; id < 140; id++) {
    const stream = guest.peer.openOutput(id);
    for (let room = stream.reserve(); room !== undefined; room = stream.reserve()) {
      stream.commit(room.length);
    }
  }
  const bytes = chance.bytes(100_000);
  const output = new Collector(opened(host.peer.openOutput(1, false)));
  send(guest.peer.openOutput(1), bytes, chance);
  await link.settle();
  assertSame(output.bytes, bytes, "stream");
});

Deno.test("peers: pings are answered", async () => {
  const { link, host } = await world();
  let answers = 0;
  assert.equal(host.peer.ping(() => answers++), true);
  await link.settle();
  assert.equal(answers, 1);
  link.cut();
  assert.equal(host.peer.ping(() => answers++), false);
});

Deno.test("peers: events come in order, once, across cuts", async () => {
  const { link, host, guest } = await world();
  const count = 300;
  for (let i = 0; i < count; i++) {
    assert.equal(guest.peer.event({ kind: "oom", container: `c${i}` }), true);
    if (i % 7 === 0) await link.step();
    if (i % 50 === 49) {
      link.cut(i, i * 3, i % 100 === 99);
      link.connect(host);
    }
  }
  await link.settle();
  const names = host.events.map((event) => event.kind === "oom" ? event.container : "");
  assert.deepEqual(names, Array.from({ length: count }, (_, i) => `c${i}`));
});

/** What one session does; the bytes of each direction differ with the seed. */
async function session(seed: number, cutAt: { host?: number; guest?: number }): Promise<number> {
  const chance = new Chance(seed);
  let calls = 0;
  const guest = new TestGuest({ pids: () => ({ pids: [++calls] }) });
  const link = new Link(guest, chance);
  link.pieceBytes = 200;
  const host = new TestHost(link.clock, chance);
  link.connect(host);
  const about = `seed ${seed}, cut at ${JSON.stringify(cutAt)}`;
  const bytes = chance.bytes(300);
  const output = new Collector(opened(host.peer.openOutput(1, false)));
  const input = opened(host.peer.openInput(2, false));
  const answers: unknown[] = [];
  host.peer.request("pids", { container: "a" }, (outcome) => answers.push(outcome));
  const streams: { input?: InboundStream; output?: OutboundStream } = {};
  const atGuest = new Collector(streams.input = guest.peer.openInput(2));
  send(streams.output = guest.peer.openOutput(1), bytes, chance, 90);
  send(input, bytes, chance, 90);
  const moved = await link.moveUntil(cutAt);
  if (cutAt.host !== undefined || cutAt.guest !== undefined) {
    link.cut(0, chance.below(2) === 0 ? undefined : chance.below(400), chance.below(2) === 0);
    link.connect(host, chance.below(4) > 0);
  }
  host.peer.request("pids", { container: "a" }, (outcome) => answers.push(outcome));
  await link.settle();
  assert.equal(host.end, undefined, about);
  assertSame(output.bytes, bytes, `${about}: output`);
  assertSame(atGuest.bytes, bytes, `${about}: input`);
  assert.ok(output.stream.ended && atGuest.stream.ended, `${about}: ends`);
  assert.deepEqual(
    answers,
    [1, 2].map((pid) => ({ kind: "result", result: { pids: [pid] } })),
    about,
  );
  return moved;
}

Deno.test("peers: nothing is lost or doubled when a connection is cut at any byte", async () => {
  for (const direction of ["host", "guest"] as const) {
    let at = 0;
    // Sessions differ in length: some end before the cut.
    for (let uncut = 0; uncut < 20; at++) {
      const moved = await session(at + 1, { [direction]: at });
      uncut = moved < at ? uncut + 1 : 0;
    }
    assert.ok(at > 600, `${direction}: only ${at} bytes`);
  }
});

Deno.test("peers: nothing is lost or doubled over many cuts with many bytes", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const { link, host, guest, chance } = await world({}, seed);
    const bytes = chance.bytes(400_000);
    const output = new Collector(opened(host.peer.openOutput(1, false)));
    const input = opened(host.peer.openInput(2, false));
    const atGuest = new Collector(guest.peer.openInput(2));
    send(guest.peer.openOutput(1), bytes, chance);
    send(input, bytes, chance);
    for (let cuts = 0; cuts < 8; cuts++) {
      for (let steps = chance.below(8); steps >= 0; steps--) await link.step();
      link.cut(chance.below(40_000), chance.below(80_000), chance.below(2) === 0);
      link.connect(host, chance.below(2) === 0);
    }
    await link.settle();
    assert.equal(host.end, undefined, `seed ${seed}`);
    assertSame(output.bytes, bytes, `seed ${seed}: output`);
    assertSame(atGuest.bytes, bytes, `seed ${seed}: input`);
  }
});
