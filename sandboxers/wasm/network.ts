/**
 * The network namespace of a pod: the descriptor that its guests' threads enter it by. CNI makes
 * the namespace and takes it away; here it is only entered.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { NetworkSpec } from "../lifecycle/spec.ts";
import { systemError } from "./native/errno.ts";
import { AT_FDCWD, CLONE_NEWNET, OPEN, SYSCALL } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";
import type { ThreadStep } from "./native/thread_spec.ts";

/** The first port that takes no capability (ip-sysctl). */
const LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/** A pod's network as its guests enter it. */
export interface PodNetwork extends Disposable {
  /** What each guest's thread does first. */
  readonly steps: readonly ThreadStep[];
}

/**
 * Opens a pod's network.
 *
 * @param system Opens the namespace.
 * @param network The pod's network.
 * @returns Valid until disposed of; then no guest may be about to start.
 * @throws {SandboxError} `InvalidArgument` when the path is missing or is no network namespace.
 */
export function openNetwork(system: System, network: NetworkSpec): PodNetwork {
  if (network.kind === "host") return { steps: [], [Symbol.dispose]: () => undefined };
  if (network.kind !== "namespace") {
    throw new SandboxError(
      "InvalidArgument",
      `cannot open network "${network.kind}": expected "host" or "namespace" for wasm`,
    );
  }
  const { path } = network;
  const action = `cannot open the network namespace "${path}"`;
  const fd = system.openAt(AT_FDCWD, path, OPEN.readOnly | OPEN.nonblocking, 0);
  if (fd < 0) {
    const { message } = systemError(action, -fd);
    throw new SandboxError("InvalidArgument", `${message}: expected a path that CNI has set up`);
  }
  if (system.namespaceKind(fd) !== CLONE_NEWNET) {
    system.close(fd);
    throw new SandboxError("InvalidArgument", `${action}: it is no network namespace`);
  }
  openLowPorts(system, fd);
  const step: ThreadStep = {
    label: "entering the network namespace",
    number: SYSCALL.setns,
    args: [fd, CLONE_NEWNET],
  };
  const release = new DisposableStack();
  release.adopt(fd, (open) => system.close(open));
  return { steps: [step], [Symbol.dispose]: () => release.dispose() };
}

/**
 * Lets everybody in a pod's namespace listen at ports below 1024, as containerd does by default for
 * pods that it makes itself: guests have no capability that would let them. Where the setting cannot
 * be changed, higher ports are left.
 */
function openLowPorts(system: System, namespace: number): void {
  try {
    // The namespace counts in which a setting is opened, not that in which it is written.
    const fd = system.within(
      namespace,
      CLONE_NEWNET,
      "/proc/thread-self/ns/net",
      () => system.openAt(AT_FDCWD, LOW_PORTS, OPEN.writeOnly, 0),
    );
    if (fd < 0) return;
    system.tryWrite(fd, new TextEncoder().encode("0"));
    system.close(fd);
  } catch {
    // Without the right to enter it, guests cannot either, and that is told when one starts.
  }
}
