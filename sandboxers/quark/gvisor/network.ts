/**
 * Decides where the network of gVisor's pods is. gVisor's own stack isolates best; but some releases
 * of runsc refuse to use it on newer kernels: they take every network namespace in which
 * /proc/sys/net/core/rmem_default is to be seen for the host's own, and since Linux 6.9 it is to be
 * seen in all. Such a runsc starts sandboxes where that is hidden from it. It is found out by trying,
 * and remembered until the host is started again.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { type ChoiceKey, readChoice, writeChoice } from "./choice_memory.ts";
import type { ChoiceOptions } from "./platform.ts";
import { NETWORK_STACKS, type NetworkStack, type Platform } from "./runsc_options.ts";

/** Where the network of pods is that have one. */
export interface ChosenNetwork {
  /** Where. */
  readonly network: NetworkStack;
  /** Whether runsc must not see /proc/sys/net when it starts a sandbox. */
  readonly hidesNetworkSettings: boolean;
  /** Why, for people. */
  readonly why: string;
}

/** What {@link chooseNetwork} works with. */
export interface NetworkOptions extends ChoiceOptions<NetworkStack> {
  /** How system calls are caught: see `choosePlatform()`. */
  readonly platform: Platform;
}

/** How long a try may take, in milliseconds. */
const TRY_MS = 10_000;

/**
 * Decides: for `auto` gVisor's own stack where it works, else the host's in the pod's namespace.
 *
 * @param options See {@link NetworkOptions}.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where gVisor's stack is asked for and does not work,
 *   with what to do; `Cancelled`.
 */
export async function chooseNetwork(
  options: NetworkOptions,
  signal: AbortSignal,
): Promise<ChosenNetwork> {
  const { wanted, facts, platform, memoryFile, log } = options;
  throwIfAborted(signal, "cannot choose a network for gVisor");
  if (wanted === "host" || wanted === "none") {
    return { network: wanted, hidesNetworkSettings: false, why: "the configuration says so" };
  }
  const runsc = `${options.runsc} ${platform}`;
  const key: ChoiceKey = { bootId: facts.bootId, runsc, wanted };
  const known = await readChoice(memoryFile, key, parse);
  if (known !== undefined) return known;
  const { isCertain, ...chosen } = await decide(options, signal);
  log.info("chose a network for gVisor", { ...chosen });
  if (!isCertain) return chosen;
  await writeChoice(memoryFile, key, { ...chosen }).catch((error: unknown) => {
    log.warn("cannot remember the network of gVisor", { error });
  });
  return chosen;
}

async function decide(
  { wanted, platform, probe }: NetworkOptions,
  signal: AbortSignal,
): Promise<ChosenNetwork & { readonly isCertain: boolean }> {
  const run = { platform, network: "sandbox", timeoutMs: TRY_MS } as const;
  const plain = await probe(run, signal);
  if (plain.works) {
    const why = "gVisor's own network works here";
    return { network: "sandbox", hidesNetworkSettings: false, why, isCertain: true };
  }
  const masked = await probe({ ...run, hidesNetworkSettings: true }, signal);
  if (masked.works) {
    const why = `gVisor's own network works where /proc/sys/net is hidden from runsc, and not as ` +
      `it is: ${plain.message}`;
    return { network: "sandbox", hidesNetworkSettings: true, why, isCertain: !plain.isLate };
  }
  const failures = `${plain.message}; with /proc/sys/net hidden: ${masked.message}`;
  if (wanted === "auto") {
    const why = `gVisor's own network does not work here: ${failures}`;
    const isCertain = !plain.isLate && !masked.isLate;
    return { network: "host", hidesNetworkSettings: false, why, isCertain };
  }
  throw new SandboxError(
    "FailedPrecondition",
    `cannot use gVisor's own network: ${failures}: install a newer runsc, or set gvisor.network to ` +
      '"auto" or "host"',
  );
}

function parse(fields: ReadonlyMap<string, unknown>): ChosenNetwork | undefined {
  const network = NETWORK_STACKS.find((name) => name === fields.get("network"));
  const hidesNetworkSettings = fields.get("hidesNetworkSettings");
  const why = fields.get("why");
  if (network === undefined || typeof why !== "string") return undefined;
  if (typeof hidesNetworkSettings !== "boolean") return undefined;
  return { network, hidesNetworkSettings, why };
}
