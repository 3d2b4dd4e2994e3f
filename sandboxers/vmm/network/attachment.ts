/**
 * Puts a machine into its pod's network: its tap devices move into the pod's namespace, and what
 * comes in at an interface goes out at its tap and the other way round, in the kernel (tc). The
 * interfaces keep the addresses that CNI gave them; the host's own stack no longer hears of them.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import { type NetnsStep, processNetns, runInNetns } from "../../host/netns.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { PodNetwork } from "./pod_network.ts";
import { forwardFilter, forwardSteps, unforwardCommands } from "./port_forward.ts";

/** Our filters come before those of others: those for port forwarding, and those that mirror. */
const FORWARD_PREFERENCE = 1;
const MIRROR_PREFERENCE = 2;
/** What tc says where the kernel has not the classifier. */
const NO_CLASSIFIER = /classifier not found|No such file or directory|Unknown filter/;

/** Filters that fit every packet; kernels have one or the other. */
const MATCHES = ["u32 match u8 0 0", "matchall"] as const;

/** What is put together. */
export interface AttachOptions {
  /** The machine's process; its network namespace holds the taps. */
  readonly machinePid: number;
  /** Its taps there, in the order of the guest's devices; at least as many as the network's links. */
  readonly taps: readonly string[];
  /** The pod's network namespace, a path. */
  readonly netns: string;
  /** What was read there; see pod_network.ts. */
  readonly network: PodNetwork;
}

/** A machine that is in its pod's network. */
export interface NetworkAttachment {
  /** What {@link adoptAttachment} needs later; plain JSON. */
  readonly record: Json;
  /**
   * Takes the machine out again: the interfaces are as before, the taps back with the machine where
   * it lives. Succeeds where the machine or the namespace is gone. May be called more than once.
   */
  detach(): Promise<void>;
}

/** One interface with its tap. */
interface Pair {
  readonly link: string;
  /** Whether the ingress qdisc of the interface was somebody else's. */
  readonly hasIngress: boolean;
  readonly mtu: number;
  /** The MAC address that the guest has on it. */
  readonly mac: string;
  /** The tap's name with the machine. */
  readonly tap: string;
  /** Its name in the pod. */
  readonly name: string;
}

interface Attached {
  readonly machinePid: number;
  readonly netns: string;
  readonly pairs: readonly Pair[];
}

/**
 * Connects a machine with its pod's network, in one call of the launcher. On failure everything is as
 * it was.
 *
 * @param launcher The launcher.
 * @param options See {@link AttachOptions}.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where the machine has fewer taps than the pod has
 *   interfaces, or the kernel cannot do it, with the words of ip or tc; `NotFound` where a namespace
 *   is gone; `Cancelled`.
 */
export async function attachNetwork(
  launcher: Launcher,
  options: AttachOptions,
  signal?: AbortSignal,
): Promise<NetworkAttachment> {
  const attached = plan(options);
  const action = `cannot connect the microVM with the pod's network "${options.netns}"`;
  if (attached.pairs.length === 0) return attachmentOf(launcher, attached);
  for (const match of MATCHES) {
    try {
      await runInNetns(launcher, action, attachSteps(attached, match), { signal });
      return attachmentOf(launcher, attached);
    } catch (error) {
      await detach(launcher, attached);
      const isLast = match === MATCHES[MATCHES.length - 1];
      const lacksMatch = error instanceof SandboxError && NO_CLASSIFIER.test(error.message);
      if (isLast || !lacksMatch || signal?.aborted === true) throw error;
    }
  }
  throw new SandboxError("Internal", action);
}

/**
 * Takes over what an earlier process connected. Nothing is looked at or changed.
 *
 * @param launcher The launcher.
 * @param record Its {@link NetworkAttachment.record}.
 * @throws {SandboxError} `DataLoss` for what is no such record.
 */
export function adoptAttachment(launcher: Launcher, record: Json): NetworkAttachment {
  const attached = parseRecord(record);
  if (attached !== undefined) return attachmentOf(launcher, attached);
  throw new SandboxError("DataLoss", "cannot read the record of a microVM's network");
}

function plan({ machinePid, taps, netns, network }: AttachOptions): Attached {
  // Paths are words of ip's and tc's commands.
  if (/[\s"'\\]/.test(netns)) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot use the network namespace "${netns}": expected a path without spaces and quotes`,
    );
  }
  const pairs = network.links.map(({ name, hasIngress, mtu }, index) => {
    const tap = taps[index];
    const mac = network.interfaces[index]?.mac ?? "";
    if (tap !== undefined) return { link: name, hasIngress, mtu, mac, tap, name: `qtap${index}` };
    throw new SandboxError(
      "FailedPrecondition",
      `cannot connect the microVM with the pod's network "${netns}": it has ` +
        `${network.links.length} interfaces, and the microVM ${taps.length}`,
    );
  });
  return { machinePid, netns, pairs };
}

function attachSteps({ machinePid, netns, pairs }: Attached, match: string): NetnsStep[] {
  const [first] = pairs;
  const mirror = (from: string, to: string) =>
    `filter add dev ${from} ingress pref ${MIRROR_PREFERENCE} protocol all ${match} ` +
    `action mirred egress redirect dev ${to}`;
  return [
    {
      netns: processNetns(machinePid),
      program: "ip",
      commands: pairs.map(({ tap, name }) => `link set dev ${tap} netns ${netns} name ${name}`),
    },
    {
      netns,
      program: "ip",
      // Without a link-local address, the host says nothing to the guest of its own accord.
      commands: pairs.map(({ name, mtu }) =>
        `link set dev ${name} mtu ${mtu} addrgenmode none promisc on up`
      ),
    },
    {
      netns,
      program: "tc",
      commands: pairs.flatMap(({ link, name, hasIngress }) => [
        ...(hasIngress ? [] : [`qdisc add dev ${link} ingress`]),
        `qdisc add dev ${name} ingress`,
        forwardFilter(link, "interface", FORWARD_PREFERENCE),
        ...(name === first?.name ? [forwardFilter(name, "tap", FORWARD_PREFERENCE)] : []),
        mirror(link, name),
        mirror(name, link),
      ]),
    },
    ...(first === undefined ? [] : forwardSteps(netns, first.name, first.mac)),
  ];
}

/** The reverse of {@link attachSteps}, as far as it was done. */
function detachSteps({ machinePid, netns, pairs }: Attached): NetnsStep[] {
  return [
    {
      netns,
      program: "tc",
      isOptional: true,
      commands: pairs.flatMap(({ link, name, hasIngress }) => [
        ...(hasIngress
          ? [FORWARD_PREFERENCE, MIRROR_PREFERENCE].map((preference) =>
            `filter del dev ${link} ingress pref ${preference}`
          )
          : [`qdisc del dev ${link} ingress`]),
        `qdisc del dev ${name} ingress`,
      ]),
    },
    {
      netns,
      program: "ip",
      isOptional: true,
      commands: pairs.flatMap(({ name, tap }, index) => [
        ...(index === 0 ? unforwardCommands(name) : []),
        `link set dev ${name} down`,
        `link set dev ${name} netns ${processNetns(machinePid)} name ${tap}`,
      ]),
    },
  ];
}

async function detach(launcher: Launcher, attached: Attached): Promise<void> {
  if (attached.pairs.length === 0) return;
  const action = `cannot take the microVM out of the pod's network "${attached.netns}"`;
  await runInNetns(launcher, action, detachSteps(attached));
}

function attachmentOf(launcher: Launcher, attached: Attached): NetworkAttachment {
  return {
    record: { ...attached, pairs: attached.pairs.map((pair) => ({ ...pair })) },
    detach: () => detach(launcher, attached),
  };
}

function parseRecord(record: Json): Attached | undefined {
  if (typeof record !== "object" || record === null || !("pairs" in record)) return undefined;
  const { machinePid, netns, pairs } = record;
  if (typeof machinePid !== "number" || typeof netns !== "string" || !Array.isArray(pairs)) {
    return undefined;
  }
  const parsed = pairs.flatMap((pair) => parsePair(pair));
  return parsed.length === pairs.length ? { machinePid, netns, pairs: parsed } : undefined;
}

function parsePair(pair: Json): Pair[] {
  if (typeof pair !== "object" || pair === null || !("link" in pair)) return [];
  const { link, hasIngress, mtu, mac, tap, name } = pair;
  if (
    typeof link !== "string" || typeof hasIngress !== "boolean" || typeof mtu !== "number" ||
    typeof mac !== "string" || typeof tap !== "string" || typeof name !== "string"
  ) return [];
  return [{ link, hasIngress, mtu, mac, tap, name }];
}
