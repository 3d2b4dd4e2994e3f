/**
 * The guest agent: the first process of a microVM. It brings the guest up, meets the host, and does
 * what it asks. Whatever goes wrong here is told and survived: when the first process ends, so does
 * the guest.
 *
 * @module
 */

import "./globals.ts";

import { createGuestPeer } from "../protocol/guest_peer.ts";
import type { GuestPeer, RequestHandlers } from "../protocol/peer.ts";
import type { Agent } from "./agent.ts";
import { bringUp } from "./bring_up.ts";
import { coreRequests, helloOf, withFailures } from "./core_requests.ts";
import { startConsole, wantsConsole } from "./debug_console.ts";
import { ProcessTable } from "./exits.ts";
import { guestRequests } from "./guest_requests.ts";
import { type HostLink, hostLinkOf, openHostLink } from "./host_link.ts";
import { flushLog, log, logTo } from "./log.ts";
import { after, startLoop } from "./loop.ts";
import { plainRequests } from "./plain_processes.ts";
import { startReaping } from "./processes.ts";
import * as sys from "./sys.js";

startLoop((message) => log("error", `uncaught: ${message}`));
serve();

function serve(): void {
  const socket = sys.getenv("QUASAUR_AGENT_SOCKET");
  if (sys.getpid() === 1) serveGuest();
  else if (socket !== null) connect({ kind: "unix", path: socket }, [], plainRequests);
  else {
    sys.printError("agent: it is not the first process: set QUASAUR_AGENT_SOCKET to a path\n");
    sys.exit(2);
  }
}

function serveGuest(): void {
  const warnings = bringUp();
  for (const warning of warnings) sys.printError(`agent: ${warning}\n`);
  const found = sys.readFile("/proc/cmdline");
  const commandLine = typeof found === "string" ? found : "";
  if (wantsConsole(commandLine)) startConsole();
  connect(hostLinkOf(commandLine), warnings, guestRequests);
}

/** Begins to answer the host. */
function connect(
  link: HostLink,
  warnings: readonly string[],
  requests: (agent: Agent) => RequestHandlers,
): void {
  startReaping();
  // The peer wants handlers, and these want the agent, which wants the peer: filled in below.
  const handlers: RequestHandlers = {};
  const peer: GuestPeer = createGuestPeer({
    handlers,
    connected: (resumed) => {
      peer.event({ kind: "ready", hello: helloOf(warnings) });
      flushLog();
      // What the same host was told before, it was told; a new one may not know.
      if (!resumed) agent.processes.retell();
    },
    log: (message) => sys.printError(`agent: ${message}\n`),
  });
  const tell: Agent["tell"] = (event) => peer.event(event);
  const agent: Agent = { streams: peer, processes: new ProcessTable(tell), warnings, tell };
  Object.assign(handlers, withRetelling(agent, { ...coreRequests(agent), ...requests(agent) }));
  logTo(tell);
  openHostLink(link, peer);
}

/** A host that takes stock is told every exit again that nobody has acknowledged. */
function withRetelling(agent: Agent, handlers: RequestHandlers): RequestHandlers {
  const { inventory } = handlers;
  if (inventory === undefined) return withFailures(handlers);
  return withFailures({
    ...handlers,
    inventory: async (args) => {
      const result = await inventory(args);
      after(0, () => agent.processes.retell());
      return result;
    },
  });
}
