/**
 * Describes the machine and the programs that results were measured with: figures say little without.
 *
 * @module
 */

import { run } from "../tests/support/command.ts";

/** The machine and its programs. */
export interface Host {
  /** When the run began, in ISO 8601. */
  readonly date: string;
  /** The processor's name. */
  readonly cpu: string;
  /** How many processors there are. */
  readonly cores: number;
  /** Memory in MiB. */
  readonly memoryMiB: number;
  /** The kernel's version, without what its builder added. */
  readonly kernel: string;
  /** The processes that wanted to run in the minute before, on average. */
  readonly loadBefore: number;
  /** The versions of the programs that take part. */
  readonly versions: Readonly<Record<string, string>>;
}

/** Programs whose version matters, and how they tell it. */
const PROGRAMS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  containerd: ["containerd", "--version"],
  runc: ["runc", "--version"],
  wasmedge: ["wasmedge", "--version"],
};

/** Looks at this machine. */
export async function describeHost(): Promise<Host> {
  const cpuInfo = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  const versions: Record<string, string> = { deno: Deno.version.deno };
  for (const [name, command] of Object.entries(PROGRAMS)) versions[name] = await version(command);
  return {
    date: new Date().toISOString(),
    cpu: /^model name\s*:\s*(.*)$/m.exec(cpuInfo)?.[1] ?? Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memoryMiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 20),
    kernel: Deno.osRelease().split("-", 1)[0] ?? "",
    loadBefore: Deno.loadavg()[0] ?? 0,
    versions,
  };
}

/** The first thing that looks like a version in what a program prints. */
async function version(command: readonly [string, ...string[]]): Promise<string> {
  try {
    const { stdout } = await run(command, { timeoutMs: 10_000 });
    return /\d+\.\d+(\.\d+)?[\w.~+-]*/.exec(stdout)?.[0] ?? "unknown";
  } catch {
    return "missing";
  }
}
