/**
 * `--publish`: ports of this host that lead to ports in a sandbox, and which kind can do what of it.
 *
 * @module
 */

import type { PublishedPort } from "../mod.ts";
import { UsageError } from "./usage_error.ts";

/** How ports are written. */
const SYNTAX = "[IP:]HOST:CONTAINER[/tcp|/udp], such as 8080:80 or 127.0.0.1:5353:53/udp";
const PORT_MAX = 65_535;

/**
 * Reads a port.
 *
 * @throws {UsageError}
 */
export function parsePublish(text: string): PublishedPort {
  const match = /^(?:(\d{1,3}(?:\.\d{1,3}){3}):)?(\d{1,5}):(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  const [, address = "0.0.0.0", host = "", container = "", protocol = "tcp"] = match ?? [];
  const isPort = (port: string) => Number(port) > 0 && Number(port) <= PORT_MAX;
  const isAddress = address.split(".").every((part) => Number(part) <= 255);
  if (match === null || !isPort(host) || !isPort(container) || !isAddress) {
    throw new UsageError(`Invalid --publish ${JSON.stringify(text)}: expected ${SYNTAX}`);
  }
  return {
    address,
    hostPort: Number(host),
    containerPort: Number(container),
    protocol: protocol === "udp" ? "udp" : "tcp",
  };
}

/**
 * Refuses ports that a sandbox without a network of its own cannot have: what listens there listens at
 * the host's own ports.
 *
 * @param ports What is to be published.
 * @param net What the sandbox reaches: `host`, `none`, or the path of a network namespace.
 * @throws {UsageError} Saying what to do.
 */
export function checkHostPorts(ports: readonly PublishedPort[], net: string): void {
  const [first] = ports;
  if (first === undefined) return;
  const text = `${first.hostPort}:${first.containerPort}`;
  if (net === "none") {
    throw new UsageError(
      `Cannot publish ${text}: the sandbox has no network: use --net host, where what listens in it ` +
        "listens at the host's own ports",
    );
  }
  if (net !== "host") {
    throw new UsageError(
      `Cannot publish ${text}: ports of the network namespace "${net}" are for whoever made it`,
    );
  }
  const other = ports.find(({ hostPort, containerPort }) => hostPort !== containerPort);
  if (other === undefined) return;
  throw new UsageError(
    `Cannot publish ${other.hostPort}:${other.containerPort}: on the host's network, what listens ` +
      `at port ${other.containerPort} listens at that of the host: leave --publish out, or use a ` +
      `port for both`,
  );
}
