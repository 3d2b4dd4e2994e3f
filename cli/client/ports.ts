/**
 * What the commands that talk to sandboxers work with: the sandboxers, the outputs, the clock, the
 * terminal. Tests bring their own.
 *
 * @module
 */

import type { Fleet } from "../../sandboxers/client/fleet.ts";
import { type OwnTerminal, ownTerminal } from "../raw_terminal.ts";
import { type Colours, coloursOf } from "../show/colours.ts";
import { complain, print } from "../terminal.ts";
import type { OwnStreams } from "./attached.ts";

/** The world of a command. */
export interface ClientPorts {
  /** Finds the sandboxers: at these sockets, or where they usually are. */
  open(addresses: readonly string[]): Promise<Fleet>;
  /** Writes to standard output. */
  print(text: string): void;
  /** Tells on standard error what went wrong, as one line. */
  complain(message: string): void;
  /** The colours of standard output. */
  colours(): Colours;
  /** Milliseconds since the epoch. */
  now(): number;
  /** The terminal of this process; undefined where it has none. */
  terminal(): OwnTerminal | undefined;
  /** The streams of this process. */
  readonly streams: OwnStreams;
}

/** The real ones. What talks to sandboxers is loaded when it is needed: help needs none of it. */
export const CLIENT_PORTS: ClientPorts = {
  open: async (addresses) => {
    const { Fleet } = await import("../../sandboxers/client/fleet.ts");
    return await Fleet.open({ addresses });
  },
  print,
  complain,
  colours: () => coloursOf(Deno.stdout),
  now: () => Date.now(),
  terminal: ownTerminal,
  streams: {
    input: () => Deno.stdin.readable,
    output: (bytes) => writeAll(Deno.stdout, bytes),
    error: (bytes) => writeAll(Deno.stderr, bytes),
  },
};

async function writeAll(
  to: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await to.write(bytes.subarray(written));
}
