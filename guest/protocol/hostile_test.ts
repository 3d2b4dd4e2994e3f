import assert from "node:assert/strict";
import {
  FLAG,
  FRAME,
  makeFrame,
  openingFrame,
  readOpening,
  sealFrame,
  WIDE_DATA_BYTES_MAX,
  windowFrame,
} from "./frames.ts";
import {
  EVENTS_MAX,
  NUISANCE_FRAMES_MAX,
  SCAN_BYTES_MAX,
  STREAM_WINDOW_BYTES,
  STREAMS_MAX,
  WIDE_WINDOW_BYTES,
} from "./limits.ts";
import { PROTOCOL_VERSION } from "./messages.ts";
import type { TransportSink } from "./transport.ts";
import { Chance, Collector, QueueTransport, TestClock, TestHost } from "./testing/link.ts";
import { encodeUtf8 } from "./utf8.ts";

/** A host, and a guest that says whatever a test wants. */
class Hostile {
  readonly clock = new TestClock();
  readonly chance: Chance;
  readonly host: TestHost;
  readonly transport = new QueueTransport();
  readonly sink: TransportSink;
  #sequence = 0;

  constructor(seed = 1) {
    this.chance = new Chance(seed);
    this.host = new TestHost(this.clock, this.chance);
    this.sink = this.host.peer.attach(this.transport, false);
    this.transport.sink = this.sink;
  }

  /** Answers the opening as an agent does. */
  open(flags = 0, protocol = PROTOCOL_VERSION, expected = 0): this {
    const frame = this.transport.take(1000);
    const opening = readOpening(frame.subarray(24, -4));
    assert.ok(opening);
    const { nonce, session } = opening;
    this.say(openingFrame(FRAME.openAck, flags, { nonce, session, protocol, expected }));
    return this;
  }

  say(...frames: readonly Uint8Array[]): this {
    for (const frame of frames) this.sink.onBytes(frame);
    return this;
  }

  /** A control message with the right number. */
  control(type: number, id: number, text: string, flags = 0, acknowledged = 0): Uint8Array {
    return makeFrame(type, flags, id, encodeUtf8(text), this.#sequence++, acknowledged);
  }

  data(id: number, offset: number, length: number, flags = 0): Uint8Array {
    return makeFrame(FRAME.data, flags, id, new Uint8Array(length), offset, 0);
  }

  /** Says what must end the talk. */
  endsBy(expected: RegExp): void {
    const { end } = this.host;
    assert.equal(end?.kind, "violation");
    assert.match(end.kind === "violation" ? end.message : "", expected);
    assert.equal(this.transport.closed, true);
  }
}

const EVENT = '{"kind":"oom","container":"a"}';
const NOTHING = new Uint8Array(0);

Deno.test("hostile guest: the right beginning is taken", () => {
  const guest = new Hostile().open();
  guest.say(guest.control(FRAME.event, 0, EVENT));
  assert.deepEqual(guest.host.events, [{ kind: "oom", container: "a" }]);
  assert.equal(guest.host.end, undefined);
});

Deno.test("hostile guest: only one that says so may bring wide frames in a wide window", () => {
  const told = (flags: number) => {
    const guest = new Hostile().open(flags);
    guest.host.peer.openOutput(1, false);
    const before = WIDE_WINDOW_BYTES - WIDE_DATA_BYTES_MAX;
    for (let at = 0; at < before; at += 25_000) {
      guest.say(guest.data(1, at, Math.min(25_000, before - at)));
    }
    return guest.say(guest.data(1, before, WIDE_DATA_BYTES_MAX));
  };
  told(0).endsBy(/brought more than its window allows/);
  const wide = told(FLAG.wide);
  assert.equal(wide.host.end, undefined);
  wide.say(wide.data(1, WIDE_WINDOW_BYTES, 1)).endsBy(/brought more than its window allows/);
  const longer = new Hostile().open(FLAG.wide);
  longer.host.peer.openOutput(1, false);
  longer.say(longer.data(1, 0, WIDE_DATA_BYTES_MAX + 1)).endsBy(/no frame/);
});

Deno.test("hostile guest: another version is told as such", () => {
  const guest = new Hostile().open(0, PROTOCOL_VERSION + 1);
  assert.deepEqual(guest.host.end, { kind: "version", version: PROTOCOL_VERSION + 1 });
});

Deno.test("hostile guest: an answer to another opening is not taken", () => {
  const guest = new Hostile();
  const other = { nonce: new Uint8Array(8), session: new Uint8Array(8), protocol: 1, expected: 0 };
  guest.say(openingFrame(FRAME.openAck, 0, other));
  assert.equal(guest.host.peer.connected, false);
});

Deno.test("hostile guest: endless bytes before the beginning", () => {
  const guest = new Hostile();
  const bytes = guest.chance.bytes(16 * 1024);
  for (let sent = 0; sent <= SCAN_BYTES_MAX; sent += bytes.length) guest.say(bytes);
  guest.endsBy(/bytes came in the place of an answer/);
});

Deno.test("hostile guest: bytes that are no frame", () => {
  const guest = new Hostile().open();
  guest.say(new Uint8Array(24)).endsBy(/no frame/);
});

Deno.test("hostile guest: a lie about a length", () => {
  const guest = new Hostile().open();
  const frame = makeFrame(FRAME.event, 0, 0, new Uint8Array(100));
  // The header says more than there is: the next frame becomes the rest of this one.
  const longer = new Uint8Array(200);
  sealFrame(longer, FRAME.event, 0, 0, 0, 0);
  guest.say(longer.subarray(0, 120), frame, frame).endsBy(/no frame/);
});

Deno.test("hostile guest: single breaches end the talk", () => {
  const cases: readonly [RegExp, (guest: Hostile) => readonly Uint8Array[]][] = [
    [/answered request 5, which was not asked/, (g) => [g.control(FRAME.answer, 5, "{}")]],
    [/a message is not JSON/, (g) => [g.control(FRAME.event, 0, "{")]],
    [/a message is not JSON/, () => [makeFrame(FRAME.event, 0, 0, new Uint8Array([0xff]))]],
    [/event\.kind/, (g) => [g.control(FRAME.event, 0, '{"kind":"nonsense"}')]],
    [/event is null/, (g) => [g.control(FRAME.event, 0, "null")]],
    [/not JSON/, (g) => [g.control(FRAME.event, 0, "[".repeat(30_000))]],
    [/control frame 7 came, expected 0/, () => [makeFrame(FRAME.event, 0, 0, NOTHING, 7, 0)]],
    [
      /acknowledged control frame 9, 0 were sent/,
      (g) => [g.control(FRAME.event, 0, EVENT, 0, 9)],
    ],
    [/acknowledged control frame/, () => [makeFrame(FRAME.acknowledge, 0, 0, NOTHING, 0, 1)]],
    [/acknowledged control frame/, () => [makeFrame(FRAME.pong, 0, 0, NOTHING, 0, 1)]],
    [/part of a message is empty/, (g) => [g.control(FRAME.event, 0, "", FLAG.more)]],
    [/impossible window/, () => [makeFrame(FRAME.window, 0, 2, NOTHING)]],
    [/impossible offset/, () => [makeFrame(FRAME.data, 0, 1, NOTHING, 0, 2 ** 31)]],
    [/goes on at 5, expected 0/, (g) => [g.data(1, 5, 10)]],
    [
      /brought bytes after its end/,
      (g) => [g.data(1, 0, 10), g.data(1, 10, 0, FLAG.end), g.data(1, 10, 1)],
    ],
    [
      /brought bytes after its end/,
      (g) => [g.data(1, 0, 10), g.data(1, 10, 0, FLAG.end), g.data(1, 5, 0, FLAG.end)],
    ],
    [/ended before bytes that have come/, (g) => [g.data(1, 0, 10), g.data(1, 0, 5, FLAG.end)]],
    [
      /brought more than its window allows/,
      (g) => Array.from({ length: 20 }, (_, i) => g.data(1, i * 30_000, 30_000)),
    ],
    [
      /was told to be at 0 of 1 bytes/,
      () => [windowFrame(2, FLAG.resume, { consumed: 0, received: 1, bytes: 1000 })],
    ],
    [
      /got a window of/,
      () => [
        windowFrame(2, FLAG.resume, { consumed: 0, received: 0, bytes: STREAM_WINDOW_BYTES + 1 }),
      ],
    ],
    [
      /called finished before its end was sent/,
      (g) => [g.control(FRAME.close, 2, "", FLAG.finished)],
    ],
  ];
  for (const [expected, frames] of cases) {
    const guest = new Hostile().open();
    guest.host.peer.openOutput(1, false);
    guest.host.peer.openInput(2, false);
    guest.say(...frames(guest));
    guest.endsBy(expected);
  }
});

Deno.test("hostile guest: a message without end is stopped", () => {
  const guest = new Hostile().open();
  const part = "x".repeat(30_000);
  for (let i = 0; i < 100 && guest.host.end === undefined; i++) {
    guest.say(guest.control(FRAME.event, 0, part, FLAG.more));
  }
  guest.endsBy(/message is larger than 1048576 bytes/);
});

Deno.test("hostile guest: floods of events and of useless frames are stopped", () => {
  const floods: readonly [RegExp, (guest: Hostile, i: number) => Uint8Array][] = [
    [/too many events/, (guest) => guest.control(FRAME.event, 0, EVENT)],
    [/of no use/, (guest, i) => guest.data(1000 + i, 0, 1)],
    [/of no use/, (_, i) => makeFrame(FRAME.ask, FLAG.adopt, 1000 + i, NOTHING)],
    [/of no use/, (guest, i) => guest.control(FRAME.close, 1000 + i, "")],
    [/of no use/, () => makeFrame(99, 0, 0, NOTHING)],
    [/of no use/, () => makeFrame(FRAME.pong, 0, 12345, NOTHING)],
    [/of no use/, (guest) => guest.control(25, 0, "")],
    [
      /of no use/,
      (_, i) => windowFrame(1000 + i, FLAG.resume, { consumed: 0, received: 0, bytes: 1 }),
    ],
  ];
  for (const [expected, frame] of floods) {
    const guest = new Hostile().open();
    const max = Math.max(NUISANCE_FRAMES_MAX, EVENTS_MAX) + 10;
    for (let i = 0; i < max && guest.host.end === undefined; i++) guest.say(frame(guest, i));
    guest.endsBy(expected);
  }
});

Deno.test("hostile guest: unknown frames now and then are forgiven", () => {
  const guest = new Hostile().open();
  for (let i = 0; i < 20_000; i++) {
    guest.say(makeFrame(99, 0, 0, NOTHING), guest.control(25, 0, ""));
    guest.clock.pass(10);
  }
  assert.equal(guest.host.end, undefined);
  assert.ok(guest.host.notes.includes("frame of type 99 was not understood and is ignored"));
});

Deno.test("hostile guest: bytes one at a time cost little memory", () => {
  const guest = new Hostile().open();
  const stream = guest.host.peer.openOutput(1, false);
  assert.ok(stream);
  const before = Deno.memoryUsage().heapUsed;
  const one = new Uint8Array([7]);
  for (let i = 0; i < STREAM_WINDOW_BYTES; i++) {
    guest.sink.onBytes(makeFrame(FRAME.data, 0, 1, one, i, 0));
  }
  assert.equal(guest.host.end, undefined);
  // A block holds many of them: the first is large.
  assert.ok((stream.peek()?.length ?? 0) >= 4096, `${stream.peek()?.length}`);
  assert.ok(Deno.memoryUsage().heapUsed - before < 200 * 1024 * 1024);
});

Deno.test("hostile guest: the host opens no more streams than there may be", () => {
  const guest = new Hostile().open();
  for (let id = 1; id <= STREAMS_MAX; id++) assert.ok(guest.host.peer.openOutput(id, false));
  assert.equal(guest.host.peer.openOutput(STREAMS_MAX + 1, false), undefined);
  assert.ok(guest.host.peer.openInput(STREAMS_MAX + 2, false));
  assert.equal(guest.host.peer.openInput(1, false), undefined);
});

Deno.test("hostile guest: one that takes nothing is given up, and not more is kept", () => {
  const guest = new Hostile().open();
  const args = { container: "a", resources: { text: "x".repeat(4_000_000) } };
  let refused: string | undefined;
  for (let i = 0; i < 20 && refused === undefined; i++) {
    refused = guest.host.peer.request("update", args, () => {});
  }
  assert.equal(refused, "too much waits to be sent");
  // What must not get lost finds no room: this guest cannot be kept in step any more.
  for (let id = 1; id < 20_000 && guest.host.end === undefined; id++) {
    guest.host.peer.openOutput(id, false)?.reset("x".repeat(1000));
  }
  assert.deepEqual(guest.host.end, { kind: "lost", message: "it does not take what it is sent" });
});

Deno.test("hostile guest: after the end nothing is taken any more", () => {
  const guest = new Hostile().open();
  const stream = guest.host.peer.openOutput(1, false);
  assert.ok(stream);
  const collector = new Collector(stream);
  guest.say(new Uint8Array(24));
  guest.say(guest.control(FRAME.event, 0, EVENT), guest.data(1, 0, 5));
  assert.deepEqual([collector.bytes, guest.host.events], [[], []]);
  assert.equal(stream.resetBy?.remote, true);
  assert.equal(guest.host.peer.openOutput(2, false), undefined);
});

Deno.test("hostile guest: no bytes whatever make the host throw or hang", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const guest = new Hostile(seed).open();
    guest.host.peer.openOutput(1, false);
    const input = guest.host.peer.openInput(2, false);
    input?.reserve();
    input?.commit(10);
    guest.host.peer.request("pids", { container: "a" }, () => {});
    for (let i = 0; i < 60 && guest.host.end === undefined; i++) {
      const { chance } = guest;
      const types = [...Object.values(FRAME), 25, 99];
      const type = types[chance.below(types.length)] ?? 0;
      const payload = chance.below(3) === 0
        ? encodeUtf8('{"kind":"oom","container":"a"}')
        : chance.bytes(chance.below(40));
      const small = () => chance.below(4);
      const frame = makeFrame(type, small() * 2, small(), payload, small(), small());
      if (chance.below(20) === 0) frame[chance.below(frame.length)] = chance.below(256);
      guest.say(frame);
      guest.clock.pass(chance.below(300));
    }
    const kind = guest.host.end?.kind;
    assert.ok(kind === undefined || kind === "violation", `seed ${seed}: ${kind}`);
  }
});
