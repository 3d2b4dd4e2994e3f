/**
 * Tries a channel out inside of the agent's engine. A FIFO stands in for a port of virtio-serial: a
 * read of nothing is 0 while nobody has it open for writing, and it hangs up then; whoever opens it
 * is the host.
 *
 * @module
 */

import type { TransportSink } from "../protocol/transport.ts";
import { Channel } from "./channel.ts";
import { must } from "./errno.ts";
import { O_NONBLOCK, O_RDONLY, O_WRONLY, S_IFIFO } from "./linux.ts";
import { after, sleep } from "./loop.ts";
import { check, same } from "./native_test_checks.ts";
import * as sys from "./sys.js";

/** Longer than a host has to be away until it is taken for gone, in milliseconds. */
const LONG_MS = 250;
/** How often is looked for what has to come, and how many times. */
const LOOK_MS = 5;
const LOOKS_MAX = 2000;

/** What a channel tells. */
class Peer {
  /** Connections that were begun, and what came in each. */
  readonly heard: string[] = [];
  readonly closed: string[] = [];
  /** Called when bytes have come. */
  onHeard: () => void = () => {};

  attach(): TransportSink {
    const number = this.heard.push("") - 1;
    return {
      onBytes: (bytes) => {
        this.heard[number] += new TextDecoder().decode(bytes);
        this.onHeard();
      },
      onDrain: () => {},
      onClosed: (reason) => {
        this.closed.push(reason);
      },
    };
  }
}

/** A host at the other end of a FIFO. */
class Host {
  #fd = -1;

  constructor(readonly path: string) {}

  get isThere(): boolean {
    return this.#fd >= 0;
  }

  come(): void {
    this.#fd = must("cannot open a FIFO", sys.open(this.path, O_WRONLY | O_NONBLOCK));
  }

  say(text: string): void {
    const bytes = new TextEncoder().encode(text);
    must("cannot write", sys.writeFrom(this.#fd, bytes, 0, bytes.length));
  }

  leave(): void {
    sys.close(this.#fd);
    this.#fd = -1;
  }
}

async function until(what: string, probe: () => boolean): Promise<void> {
  for (let looks = 0; looks < LOOKS_MAX && !probe(); looks++) await sleep(LOOK_MS);
  check(`channel: ${what}`, probe());
}

/**
 * Tries it out.
 *
 * @param directory Where it may make files.
 */
export async function checkChannel(directory: string): Promise<void> {
  const path = `${directory}/port`;
  must("cannot make a FIFO", sys.mknod(path, S_IFIFO | 0o600, 0, 0));
  const fd = must("cannot open a FIFO", sys.open(path, O_RDONLY | O_NONBLOCK));
  const peer = new Peer();
  const host = new Host(path);
  const channel = new Channel(peer, fd, { writeBytesMax: 4096, survives: true });

  // As in a clone: bytes, then that nobody is there, then that somebody is.
  peer.onHeard = () => {
    peer.onHeard = () => {};
    after(0, () => {
      host.come();
      host.say("b");
    });
  };
  host.come();
  host.say("a");
  host.leave();
  await until(
    "bytes that come before their host does are heard, and those after",
    () => peer.heard[0] === "ab",
  );
  await sleep(LONG_MS);
  same("channel: that host is not taken for gone", [peer.heard, peer.closed], [["ab"], []]);

  // The same with a host that has nothing more to say for a while.
  peer.onHeard = () => {
    peer.onHeard = () => {};
    after(0, () => host.come());
  };
  host.say("c");
  host.leave();
  await until(
    "bytes are heard although their host is away",
    () => peer.heard[0] === "abc" && host.isThere,
  );
  await sleep(LONG_MS);
  host.say("d");
  await until("a host that is quiet is heard later", () => peer.heard[0] === "abcd");
  same("channel: it is still the same", [peer.heard.length, peer.closed], [1, []]);

  host.leave();
  await until("a host that stays away is gone", () => peer.closed.length > 0);
  host.come();
  host.say("e");
  await until("the next one is another", () => peer.heard[1] === "e");
  same("channel: each was told once", [peer.heard, peer.closed.length], [["abcd", "e"], 1]);
  channel.close();
  host.leave();
}
