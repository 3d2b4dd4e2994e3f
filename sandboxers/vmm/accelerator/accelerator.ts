/**
 * Decides who executes the code of guests on this host: its processor (KVM), or QEMU's translator
 * (TCG), which is slower and works everywhere. That /dev/kvm can be opened says little: inside of
 * some virtual machines guests crawl behind it, or never come up. So a tiny guest is run, and the
 * answer is remembered until the host is started again.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Log } from "../../log.ts";
import type { HostFacts, Launcher } from "../../host/launcher.ts";
import { STUB_STATUS } from "./stub_guest.ts";
import { type ChosenAccelerator, readChoice, writeChoice } from "./memory.ts";

/** A run of the tiny guest. */
export interface StubRun {
  /** Who executes it. */
  readonly accelerator: "kvm" | "tcg";
  /** How long it may take, in milliseconds; then it is killed. */
  readonly timeoutMs: number;
}

/** How it ended. */
export interface StubEnd {
  /** The VMM's exit status; undefined where the time was over. */
  readonly status: number | undefined;
  /** What the VMM said, for people. */
  readonly message: string;
}

/** What {@link chooseAccelerator} works with. */
export interface AcceleratorOptions {
  /** What the configuration says. */
  readonly wanted: "auto" | "kvm" | "tcg";
  /** What there is to know of this host. */
  readonly facts: Pick<HostFacts, "bootId" | "kvm" | "kvmPvm">;
  /** The VMM and its version: another one may fare better. */
  readonly hypervisor: string;
  /** Runs the tiny guest. */
  readonly runStub: (run: StubRun, signal: AbortSignal) => Promise<StubEnd>;
  /** Measures the frequency of the host's time stamp counter, in kHz. */
  readonly measureTsc: (signal: AbortSignal) => Promise<number>;
  /** The file that remembers, an absolute path. */
  readonly memoryFile: string;
  /** Where notes go. */
  readonly log: Log;
}

/** How long the tiny guest may take, in milliseconds: several times what KVM takes. */
const STUB_MS = 1000;

/** How much slower than translated code KVM may be on a busy host before it is given up. */
const BUSY_FACTOR = 4;

/** How long the tiny guest may take with TCG, in milliseconds. */
const CONTROL_MS = 20_000;

/**
 * Decides. What was found out is kept in a file, so that it is done once per start of the host.
 *
 * @param options See {@link AcceleratorOptions}.
 * @param signal Aborted when the caller gave up.
 * @returns Who executes guests, and why.
 * @throws {SandboxError} `FailedPrecondition` where KVM is asked for and is not there, or the VMM
 *   cannot run at all; `Cancelled`.
 */
export async function chooseAccelerator(
  options: AcceleratorOptions,
  signal: AbortSignal,
): Promise<ChosenAccelerator> {
  const { wanted, facts, memoryFile, log } = options;
  throwIfAborted(signal, "cannot choose an accelerator");
  const key = { bootId: facts.bootId, hypervisor: options.hypervisor, wanted };
  const known = await readChoice(memoryFile, key);
  if (known !== undefined) return known;
  const { accelerator, why } = await decide(options, signal);
  const tscKhz = await options.measureTsc(signal);
  const chosen = { accelerator, why, tscKhz };
  log.info("chose an accelerator", { accelerator, why, tscKhz });
  await writeChoice(memoryFile, key, chosen).catch((error: unknown) => {
    log.warn("cannot remember the accelerator", { error: SandboxError.from(error) });
  });
  return chosen;
}

/**
 * Measures the frequency of the host's time stamp counter, by the host launcher.
 *
 * @param launcher The launcher.
 * @param signal Ends it.
 * @returns In kHz.
 * @throws {SandboxError} As {@link Launcher.run}.
 */
export async function measureTscKhz(launcher: Launcher, signal?: AbortSignal): Promise<number> {
  return await launcher.tscKhz({ signal });
}

/** Decides without measuring time stamps. */
async function decide(
  { wanted, facts, runStub }: AcceleratorOptions,
  signal: AbortSignal,
): Promise<Omit<ChosenAccelerator, "tscKhz">> {
  if (wanted === "kvm") {
    if (facts.kvm) return { accelerator: "kvm", why: "the configuration says so" };
    throw new SandboxError(
      "FailedPrecondition",
      "cannot use KVM: /dev/kvm cannot be opened: load the kernel module kvm_intel or kvm_amd, or " +
        'set hypervisor.accelerator to "auto" or "tcg"',
    );
  }
  if (wanted === "tcg") return { accelerator: "tcg", why: "the configuration says so" };
  if (!facts.kvm) return { accelerator: "tcg", why: "/dev/kvm cannot be opened" };
  if (facts.kvmPvm) {
    return { accelerator: "tcg", why: "this host's KVM works without the processor (kvm_pvm)" };
  }
  return await tryKvm(runStub, signal);
}

/** Tries KVM; where it is slow, finds out whether that is the host's load. */
async function tryKvm(
  runStub: AcceleratorOptions["runStub"],
  signal: AbortSignal,
): Promise<Omit<ChosenAccelerator, "tscKhz">> {
  const first = await runStub({ accelerator: "kvm", timeoutMs: STUB_MS }, signal);
  if (first.status === STUB_STATUS) return { accelerator: "kvm", why: "a guest ran with it" };
  if (first.status !== undefined) {
    return { accelerator: "tcg", why: `a guest failed with KVM: ${first.message}` };
  }
  const begin = performance.now();
  const control = await runStub({ accelerator: "tcg", timeoutMs: CONTROL_MS }, signal);
  const controlMs = performance.now() - begin;
  if (control.status !== STUB_STATUS) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot run a guest: neither with KVM nor with TCG: ${
        control.message || `no end after ${CONTROL_MS} ms`
      }`,
    );
  }
  const timeoutMs = BUSY_FACTOR * controlMs;
  if (timeoutMs > STUB_MS) {
    const second = await runStub({ accelerator: "kvm", timeoutMs }, signal);
    if (second.status === STUB_STATUS) return { accelerator: "kvm", why: "a guest ran with it" };
  }
  return {
    accelerator: "tcg",
    why: `a guest that takes TCG ${Math.round(controlMs)} ms did not end with KVM in ${
      Math.round(Math.max(STUB_MS, timeoutMs))
    } ms`,
  };
}
