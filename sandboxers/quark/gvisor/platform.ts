/**
 * Decides how gVisor catches system calls on this host. Which ways there are is no secret, which of
 * them work is: behind a /dev/kvm that opens, a sandbox may hang for ever. So a tiny container is
 * run, and the answer is remembered until the host is started again.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { HostFacts } from "../../host/launcher.ts";
import type { Log } from "../../log.ts";
import { type ChoiceKey, readChoice, writeChoice } from "./choice_memory.ts";
import type { Probe } from "./probe.ts";
import { type Platform, PLATFORMS } from "./runsc_options.ts";

/** What decides a choice. */
export interface ChoiceOptions<Wanted extends string> {
  /** What the configuration says. */
  readonly wanted: "auto" | Wanted;
  /** What there is to know of this host. */
  readonly facts: Pick<HostFacts, "bootId" | "kvm">;
  /** Which runsc it is: see `runscIdentity()`. */
  readonly runsc: string;
  /** Tries it. */
  readonly probe: Probe;
  /** The file that remembers, an absolute path. */
  readonly memoryFile: string;
  /** Where notes go. */
  readonly log: Log;
}

/** How system calls are caught. */
export interface ChosenPlatform {
  /** How. */
  readonly platform: Platform;
  /** Why, for people. */
  readonly why: string;
}

/** How long a try may take, in milliseconds: many times what it takes. */
const TRY_MS = 10_000;

/** What `auto` tries, in this order. */
const AUTOMATIC: readonly Platform[] = ["systrap", "ptrace"];

/**
 * Decides. What is asked for by name is tried too, once per start of the host. What was decided
 * because a try took too long is not remembered: the host may just be busy.
 *
 * @param options See {@link ChoiceOptions}.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where nothing that may be used works, with what to do;
 *   `Cancelled`.
 */
export async function choosePlatform(
  options: ChoiceOptions<Platform>,
  signal: AbortSignal,
): Promise<ChosenPlatform> {
  const { wanted, facts, runsc, memoryFile, log } = options;
  throwIfAborted(signal, "cannot choose a platform for gVisor");
  const key: ChoiceKey = { bootId: facts.bootId, runsc, wanted };
  const known = await readChoice(memoryFile, key, parse);
  if (known !== undefined) return known;
  const { isCertain, ...chosen } = await decide(options, signal);
  log.info("chose a platform for gVisor", { ...chosen });
  if (!isCertain) return chosen;
  await writeChoice(memoryFile, key, { ...chosen }).catch((error: unknown) => {
    log.warn("cannot remember the platform of gVisor", { error });
  });
  return chosen;
}

async function decide(
  { wanted, facts, probe }: ChoiceOptions<Platform>,
  signal: AbortSignal,
): Promise<ChosenPlatform & { readonly isCertain: boolean }> {
  if (wanted === "kvm" && !facts.kvm) {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot use gVisor's platform kvm: /dev/kvm cannot be opened: load the kernel module " +
        'kvm_intel or kvm_amd, or set gvisor.platform to "auto"',
    );
  }
  const failures: string[] = [];
  let isCertain = true;
  for (const platform of wanted === "auto" ? AUTOMATIC : [wanted]) {
    const run = { platform, network: "none", timeoutMs: TRY_MS } as const;
    const { works, message, isLate } = await probe(run, signal);
    if (!works) failures.push(`${platform}: ${message}`);
    else if (wanted === "auto") return { platform, why: reason(failures), isCertain };
    else return { platform, why: "the configuration says so", isCertain };
    isCertain &&= !isLate;
  }
  const advice = wanted === "auto"
    ? "see whether the host forbids ptrace(2) or seccomp(2)"
    : 'set gvisor.platform to "auto"';
  throw new SandboxError(
    "FailedPrecondition",
    `cannot run gVisor: no container ran with it (${failures.join("; ")}): ${advice}`,
  );
}

function reason(failures: readonly string[]): string {
  return failures.length === 0
    ? "a container ran with it"
    : `a container ran with it, and none with ${failures.join("; ")}`;
}

function parse(fields: ReadonlyMap<string, unknown>): ChosenPlatform | undefined {
  const platform = PLATFORMS.find((name) => name === fields.get("platform"));
  const why = fields.get("why");
  return platform === undefined || typeof why !== "string" ? undefined : { platform, why };
}
