/**
 * Where the agent meets the host: the port of virtio-serial by its name, or a listening vsock or
 * unix socket. Which one, the kernel command line says (`quasaur.agent=vsock:PORT`), or for an agent
 * that is not PID 1 the variable `QUASAUR_AGENT_SOCKET`.
 *
 * @module
 */

import type { GuestPeer } from "../protocol/peer.ts";
import { Channel } from "./channel.ts";
import { ENXIO, must, systemError } from "./errno.ts";
import { listDirectory } from "./files.ts";
import { EPOLLIN, O_NONBLOCK, O_RDWR } from "./linux.ts";
import { log } from "./log.ts";
import { after, watch } from "./loop.ts";
import * as sys from "./sys.js";

/** The name of the port: `-device virtserialport,name=agent.0`. */
export const PORT_NAME = "agent.0";
/** virtio-serial takes no more than this in one write anyway, in bytes. */
const PORT_WRITE_BYTES = 32 * 1024;
/** Larger packets of a guest get lost in several vsock back ends, in bytes. */
const VSOCK_WRITE_BYTES = 16 * 1024;
const SOCKET_WRITE_BYTES = 32 * 1024;
/** Connections that may wait to be taken. */
const BACKLOG = 64;
/** How long to wait between looks for the port, in milliseconds. */
const PORT_RETRY_MS = 2;
/** After so many looks they become rare, so that a guest without a port stays quiet. */
const PORT_LOOKS_MAX = 5000;
const PORT_RARE_RETRY_MS = 1000;

const PORTS_DIRECTORY = "/sys/class/virtio-ports";
/** The kernel's modules for vsock, in the order of their names. */
const VSOCK_MODULES = "/modules-vsock";

/** Where the host is met. */
export type HostLink =
  | { readonly kind: "port"; readonly name: string }
  | { readonly kind: "vsock"; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/**
 * Reads the kernel command line.
 *
 * @param commandLine The content of /proc/cmdline.
 * @returns The link that it names, by default the port.
 */
export function hostLinkOf(commandLine: string): HostLink {
  const match = /(?:^|\s)quasaur\.agent=vsock:(\d{1,9})(?:\s|$)/.exec(commandLine);
  if (match !== null) return { kind: "vsock", port: Number(match[1]) };
  return { kind: "port", name: PORT_NAME };
}

/**
 * Begins to serve the host; whatever is missing yet is waited for.
 *
 * @param link Where.
 * @param peer Who talks there.
 * @throws AgentError Where a socket cannot be listened on.
 */
export function openHostLink(link: HostLink, peer: Pick<GuestPeer, "attach">): void {
  switch (link.kind) {
    case "port":
      openPort(link.name, peer, 0);
      return;
    case "vsock":
      loadVsock();
      serve(must("cannot listen on vsock", sys.vsockListen(link.port)), peer, VSOCK_WRITE_BYTES);
      return;
    case "unix":
      serve(must("cannot listen", sys.unixListen(link.path, BACKLOG)), peer, SOCKET_WRITE_BYTES);
  }
}

/** Loads what only guests with this link need. What fails shows when the socket is made. */
function loadVsock(): void {
  for (const name of listDirectory(VSOCK_MODULES)) sys.loadModule(`${VSOCK_MODULES}/${name}`, "");
}

/** The device of a port by its name: /sys/class/virtio-ports/vport0p1/name. */
function findPort(name: string): string | undefined {
  const ports = sys.readdir(PORTS_DIRECTORY);
  if (typeof ports === "number") return undefined;
  for (const port of ports) {
    const found = sys.readFile(`${PORTS_DIRECTORY}/${port}/name`);
    if (typeof found === "string" && found.trim() === name) return `/dev/${port}`;
  }
  return undefined;
}

function openPort(name: string, peer: Pick<GuestPeer, "attach">, looks: number): void {
  const device = findPort(name);
  const fd = device === undefined ? -ENXIO : sys.open(device, O_RDWR | O_NONBLOCK);
  if (fd >= 0) {
    new Channel(peer, fd, { writeBytesMax: PORT_WRITE_BYTES, survives: true });
    return;
  }
  if (looks === PORT_LOOKS_MAX) log("error", systemError(`cannot open port "${name}"`, fd).message);
  const delayMs = looks < PORT_LOOKS_MAX ? PORT_RETRY_MS : PORT_RARE_RETRY_MS;
  after(delayMs, () => openPort(name, peer, looks + 1));
}

/** Takes connections; a new one replaces the one before, as a host that is back is the host. */
function serve(listener: number, peer: Pick<GuestPeer, "attach">, writeBytesMax: number): void {
  let channel: Channel | undefined;
  watch(listener, EPOLLIN, () => {
    const fd = sys.accept(listener);
    if (fd < 0) return;
    channel?.close();
    const made: Channel = new Channel(peer, fd, {
      writeBytesMax,
      survives: false,
      onGone: () => {
        if (channel === made) channel = undefined;
      },
    });
    channel = made;
  });
}
