/**
 * A host on which no sandboxer runs, for tests of commands that run in their own process.
 *
 * @module
 */

import { Fleet } from "../../sandboxers/client/fleet.ts";
import { CLIENT_PORTS } from "../client/ports.ts";
import type { ThroughPorts } from "../run_through.ts";

/** Finds none. */
export const NO_SANDBOXERS: ThroughPorts = {
  open: () => Promise.resolve(new Fleet([])),
  isThere: () => Promise.resolve(false),
  streams: CLIENT_PORTS.streams,
  print: CLIENT_PORTS.print,
  images: {},
};
