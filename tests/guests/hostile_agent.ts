/**
 * The first process of a guest that lies. It is built like the agent and takes its place in an
 * initrd; which lie it tells is in the file `/lie`, and without one it says nothing at all. Not a
 * program of the host.
 *
 * @module
 */

import "../../guest/agent/globals.ts";

import {
  emptyHead,
  FLAG,
  FRAME,
  HEADER_BYTES,
  makeFrame,
  type Opening,
  OPENING_BYTES,
  openingFrame,
  OVERHEAD_BYTES,
  readHead,
  readOpening,
} from "../../guest/protocol/frames.ts";
import { encodeUtf8 } from "../../guest/protocol/utf8.ts";
import { PROTOCOL_VERSION } from "../../guest/protocol/messages.ts";
import { MS_NOSUID, O_RDWR } from "../../guest/agent/linux.ts";
import * as sys from "../../guest/agent/sys.js";

const NOISE_BYTES = 16 * 1024;
/** The largest payload of one frame that is sent here. */
const PIECE_BYTES = 16 * 1024;

/** The port to the host. */
class Port {
  #sequence = 0;

  constructor(readonly fd: number) {}

  /** Writes all of it, however long that takes. */
  write(bytes: Uint8Array): void {
    for (let sent = 0; sent < bytes.length;) {
      const count = sys.writeFrom(this.fd, bytes, sent, bytes.length - sent);
      if (count > 0) sent += count;
    }
  }

  /** Waits for the host's opening. */
  opening(): Opening {
    const buffer = new ArrayBuffer(64 * 1024);
    const view = new DataView(buffer);
    let filled = 0;
    for (;;) {
      const count = sys.read(this.fd, buffer, filled, buffer.byteLength - filled);
      if (count > 0) filled += count;
      for (let at = 0; at + OVERHEAD_BYTES + OPENING_BYTES <= filled; at++) {
        const head = emptyHead();
        if (!readHead(view, at, head) || head.type !== FRAME.open) continue;
        const found = readOpening(new Uint8Array(buffer, at + HEADER_BYTES, head.length));
        if (found !== undefined) return found;
      }
      if (filled === buffer.byteLength) filled = 0;
    }
  }

  /** Sends a control message, in as many parts as it takes. */
  say(type: number, id: number, payload: Uint8Array, flags = 0): void {
    for (let at = 0; at === 0 || at < payload.length; at += PIECE_BYTES) {
      const more = at + PIECE_BYTES < payload.length ? FLAG.more : 0;
      const piece = payload.subarray(at, at + PIECE_BYTES);
      this.write(makeFrame(type, flags | more, id, piece, this.#sequence++, 0));
    }
  }

  /** Tells an event. */
  tell(event: unknown): void {
    this.say(FRAME.event, 0, encodeUtf8(JSON.stringify(event)));
  }

  /** Answers the opening and says that the guest is ready, as an agent does. */
  greet(): void {
    const { nonce, session } = this.opening();
    const answer = { nonce, session, protocol: PROTOCOL_VERSION, expected: 0 };
    this.write(openingFrame(FRAME.openAck, 0, answer));
    const hello = { protocol: PROTOCOL_VERSION, agent: "liar", kernel: "none", warnings: [] };
    this.tell({ kind: "ready", hello });
  }
}

/** Bytes that look like chance, the same every time. */
function noise(seed: number): Uint8Array {
  const bytes = new Uint8Array(NOISE_BYTES);
  let state = seed;
  for (let i = 0; i < bytes.length; i++) {
    state = Math.imul(state, 1103515245) + 12345 >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

function forever(step: (count: number) => void): never {
  for (let count = 0;; count++) step(count);
}

/** An exit of a process that nobody started. */
function strangersExit(count: number) {
  const name = { container: `stranger-${count}`, exec: "" };
  return { kind: "exit", exit: { ...name, status: 0, atMs: 1, oom: false, signaled: false } };
}

/** Stands still for good: nothing is ever written to a pipe of one's own. */
function sleepForGood(): never {
  const ends = sys.pipe(0);
  const buffer = new ArrayBuffer(1);
  return forever(() => typeof ends === "number" ? ends : sys.read(ends[0], buffer, 0, 1));
}

/** What can be told; none ends by itself. */
const LIES: Readonly<Record<string, (port: Port) => never>> = {
  noise: (port) => forever((count) => port.write(noise(count + 1))),
  "a frame that says it is longer than any": (port) => {
    port.greet();
    const frame = makeFrame(FRAME.event, 0, 0, new Uint8Array(64));
    new DataView(frame.buffer).setUint32(8, 0xffff_fff0, true);
    return forever(() => port.write(frame));
  },
  "a message without end": (port) => {
    port.greet();
    const piece = new Uint8Array(PIECE_BYTES);
    return forever((count) =>
      port.write(makeFrame(FRAME.event, FLAG.more, 0, piece, count + 1, 0))
    );
  },
  "a million streams": (port) => {
    port.greet();
    const piece = new Uint8Array(64);
    return forever((count) => port.write(makeFrame(FRAME.data, 0, count % 1e6 + 1, piece, 0, 0)));
  },
  "ends of processes that nobody started": (port) => {
    port.greet();
    return forever((count) => port.tell(strangersExit(count)));
  },
  "notes for the log without end": (port) => {
    port.greet();
    return forever(() => port.tell({ kind: "log", level: "error", message: "x" }));
  },
};

/** The port of the agent, which is the only one. */
function openPort(): Port {
  for (;;) {
    const names = sys.readdir("/dev");
    const name = typeof names === "number"
      ? undefined
      : names.find((one) => one.startsWith("vport"));
    const fd = name === undefined ? -1 : sys.open(`/dev/${name}`, O_RDWR);
    if (fd >= 0) return new Port(fd);
  }
}

sys.mkdir("/dev", 0o755);
sys.mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
const lie = sys.readFile("/lie");
const tell = typeof lie === "string" ? LIES[lie] : undefined;
if (tell === undefined) sleepForGood();
else tell(openPort());
