/**
 * Ports of this host that lead into a machine, through the network that QEMU makes by itself. Source:
 * QEMU, "Human Monitor Protocol", `hostfwd_add`.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { PublishedPort } from "../../lifecycle/spec.ts";
import type { QmpClient } from "./qmp.ts";

/** QEMU's name of the network; see `command_line.ts`. */
const NETWORK = "net0";
const PORT_MAX = 65_535;
/** Ports below take a right that machines do not have. */
const PORT_MIN = 1_024;

/**
 * Lets ports lead to a machine. They go with it.
 *
 * @param qmp Its control connection.
 * @param ports The ports.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `InvalidArgument`; `FailedPrecondition` for a port that is taken or not
 *   allowed.
 */
export async function publishPorts(
  qmp: Pick<QmpClient, "execute">,
  ports: readonly PublishedPort[],
  signal: AbortSignal,
): Promise<void> {
  for (const port of ports) {
    const { address, hostPort, containerPort, protocol } = port;
    const action = `cannot publish port ${hostPort} of ${address}`;
    check(port, action);
    const rule = `${protocol}:${address}:${hostPort}-:${containerPort}`;
    const answer = await qmp.execute(
      "human-monitor-command",
      { "command-line": `hostfwd_add ${NETWORK} ${rule}` },
      { signal },
    );
    if (answer.trim() === "") continue;
    const hint = hostPort < PORT_MIN
      ? `ports below ${PORT_MIN} take a right that machines do not have`
      : "is it taken?";
    throw new SandboxError("FailedPrecondition", `${action}: ${answer.trim()}: ${hint}`);
  }
}

/** What QEMU reads as a command has to be no more than a port. */
function check(
  { address, hostPort, containerPort, protocol }: PublishedPort,
  action: string,
): void {
  const isPort = (port: number) => Number.isInteger(port) && port > 0 && port <= PORT_MAX;
  const isAddress = /^\d{1,3}(\.\d{1,3}){3}$/.test(address);
  const isKnown = protocol === "tcp" || protocol === "udp";
  if (isPort(hostPort) && isPort(containerPort) && isAddress && isKnown) return;
  throw new SandboxError(
    "InvalidArgument",
    `${action}: expected an IPv4 address, ports from 1 to ${PORT_MAX}, and tcp or udp`,
  );
}
