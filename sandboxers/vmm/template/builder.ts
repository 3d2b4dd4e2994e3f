/**
 * Makes a template: boots a machine, waits for its agent, lets the guest give back what memory it
 * can, and saves it. Whatever goes wrong, no machine is left.
 *
 * @module
 */

import { pause } from "../../../guest/client/pause.ts";
import type { Requests } from "../../../guest/protocol/messages.ts";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { Hypervisor, Machine, MachinePlace, MachineSpec } from "../hypervisor.ts";
import type { MachinePlaces } from "../places.ts";
import { freeBytes } from "./free_bytes.ts";
import type { MachineLedger } from "./ledger.ts";

/** The agent of a machine that becomes a template, as far as that goes. */
export interface TemplateAgent extends Disposable {
  /** Asks the guest to give back what memory it can. */
  request(
    name: "quiesce",
    args: Requests["quiesce"]["args"],
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<Requests["quiesce"]["result"]>;
}

/** Serves a shared tree while a template with one is made. */
export interface TemplateTree {
  /** The socket of the file server. */
  readonly socket: string;
  /** Ends it. */
  stop(): Promise<void>;
}

/** What making templates takes. */
export interface BuilderOptions {
  /** Boots and saves. */
  readonly hypervisor: Hypervisor;
  /** Gives places to machines. */
  readonly places: Pick<MachinePlaces, "make" | "free">;
  /** Takes note of machines. */
  readonly ledger: MachineLedger;
  /** Connects to the agent of a machine and waits until it answers. */
  readonly agent: (machine: Machine, signal: AbortSignal) => Promise<TemplateAgent>;
  /**
   * Serves an empty tree, for templates of machines with a shared one; these have no templates where
   * it is missing.
   */
  readonly sharedTree?: (place: MachinePlace, signal: AbortSignal) => Promise<TemplateTree>;
  /**
   * How much room there is in a directory, in bytes; undefined where that is not known. Default:
   * what the file system says, where this process may ask.
   */
  readonly freeBytes?: (directory: string) => Promise<number | undefined>;
  /** How long the guest is left alone before it is saved, in milliseconds. Default 300. */
  readonly settleMs?: number;
}

/** Room that a template takes beside the guest's memory, in bytes. */
const STATE_BYTES = 8 << 20;

/** How long the guest may take to give memory back, in milliseconds. */
const QUIESCE_MS = 20_000;

/**
 * How long the guest is left alone before it is saved, in milliseconds: what it puts off (freeing
 * memory, hearing that its host has gone) would be done by each clone instead.
 */
const SETTLE_MS = 300;

/**
 * Makes a template.
 *
 * @param spec The machine.
 * @param directory Where to save it: an empty directory that VMMs can get to.
 * @param options See {@link BuilderOptions}.
 * @param signal Ends it.
 * @throws {SandboxError} Where it cannot be made: `ResourceExhausted` without room.
 */
export async function buildTemplate(
  spec: MachineSpec,
  directory: string,
  options: BuilderOptions,
  signal: AbortSignal,
): Promise<void> {
  await checkRoom(directory, spec, options);
  await using cleanup = new AsyncDisposableStack();
  const place = await options.places.make("");
  cleanup.defer(() => options.places.free(place));
  const tree = spec.sharedTree ? await options.sharedTree?.(place, signal) : undefined;
  if (tree !== undefined) cleanup.defer(() => tree.stop());
  const memoryFile = `${directory}/memory`;
  const treePlace = { ...place, memoryFile, sharedTreeSocket: tree?.socket };
  await bootAndSave(spec, directory, treePlace, options, signal);
}

/** Boots a machine at a place and saves it. */
async function bootAndSave(
  spec: MachineSpec,
  directory: string,
  place: MachinePlace,
  { hypervisor, ledger, agent: connect, settleMs = SETTLE_MS }: BuilderOptions,
  signal: AbortSignal,
): Promise<void> {
  const machine = await hypervisor.boot(spec, place, signal);
  try {
    await ledger.add(place, machine);
    await unlessEnded(machine, signal, async (either) => {
      using agent = await connect(machine, either);
      await agent.request("quiesce", {}, { signal: either, timeoutMs: QUIESCE_MS });
    });
    if (machine.save === undefined) {
      throw new SandboxError("Unimplemented", `cannot save a machine of ${hypervisor.name}`);
    }
    // The agent is let go before: a clone's host is another one.
    await unlessEnded(machine, signal, (either) => pause(settleMs, either));
    await unlessEnded(machine, signal, () => machine.save?.(directory, { resume: false }));
  } finally {
    await machine.stop();
    await ledger.remove(place);
  }
}

/** Does something with a machine; its end, or the caller's giving up, ends that. */
async function unlessEnded(
  machine: Machine,
  signal: AbortSignal,
  effect: (signal: AbortSignal) => Promise<void> | undefined,
): Promise<void> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(abortError(signal, "cannot make a template"));
  // Already over, it would not be told.
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  let done = false;
  machine.exited.then(({ reason, message }) => {
    // A save ends the machine by itself.
    if (!done && reason !== "stopped") reject(endedEarly(reason, message));
  });
  try {
    await Promise.race([effect(either), interrupted]);
  } finally {
    done = true;
    over.abort();
    signal.removeEventListener("abort", onAbort);
  }
}

/** Tells before the guest is killed for it that its memory has no room. */
async function checkRoom(
  directory: string,
  spec: MachineSpec,
  options: BuilderOptions,
): Promise<void> {
  const free = await (options.freeBytes ?? freeBytes)(directory);
  const needed = spec.memoryBytes + STATE_BYTES;
  if (free === undefined || free >= needed) return;
  throw new SandboxError(
    "ResourceExhausted",
    `cannot make a template in "${directory}": it takes up to ${mebibytes(needed)} MiB and ` +
      `${mebibytes(free)} MiB are free: set template.directory to a larger file system`,
  );
}

/** A guest's memory that has no room in its file kills its VMM by SIGBUS. */
function endedEarly(reason: string, message: string): SandboxError {
  const words = message === "" ? "" : `: ${message}`;
  const advice = message.includes("SIGBUS")
    ? ": is the file system full? set template.directory to a larger one"
    : "";
  return new SandboxError(
    "FailedPrecondition",
    `cannot make a template: its machine ended (${reason})${words}${advice}`,
  );
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / (1 << 20));
}
