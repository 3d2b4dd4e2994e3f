/**
 * How `quasaur doctor` looks at a host. Tests bring hosts of their own.
 *
 * @module
 */

import type { HostFacts } from "../../sandboxers/host/launcher.ts";
import type { QuarkConfig } from "../../sandboxers/quark/config/config.ts";
import type { RunscCheck } from "../../sandboxers/quark/gvisor/runsc_version.ts";
import type { VmmConfig } from "../../sandboxers/vmm/config/config.ts";

/** What is at a path. */
export type PathKind = "file" | "directory" | "other";

/** A configuration that was read, or why it cannot be. */
export type ReadConfiguration<T> = { readonly config: T } | { readonly problem: string };

/** A sandboxer that listens. */
export interface RunningSandboxer {
  /** Its socket. */
  readonly address: string;
  /** Its kind. */
  readonly kind: string;
  /** Its version. */
  readonly version: string;
}

/** A socket of a sandboxer at which something is wrong. */
export interface SilentSandboxer {
  /** The socket. */
  readonly address: string;
  /** What is wrong. */
  readonly problem: string;
}

/** What containerd's configuration has of our sections. */
export interface ContainerdSections {
  /** The file. */
  readonly file: string;
  /** Whether it is there. */
  readonly exists: boolean;
  /** Sections that are missing, by their names. */
  readonly missing: readonly string[];
  /** Sections that say something else than they have to, with where. */
  readonly different: readonly string[];
}

/** Where containerd looks for CNI. */
export interface CniPlaces {
  /** Directories of plugins. */
  readonly programs: readonly string[];
  /** The directory of networks. */
  readonly networks: string;
}

/** A host. What throws is told as a finding. */
export interface DoctorHost {
  /** Whether this is the source tree: then its set-up mends most. */
  readonly isSourceTree: boolean;
  /** The user that this runs as. */
  uid(): number;
  /** The text of a file; undefined where it cannot be read. */
  readText(path: string): Promise<string | undefined>;
  /** What is at a path; undefined for nothing. */
  whatIsAt(path: string): Promise<PathKind | undefined>;
  /** The names in a directory, none where there is none. */
  list(path: string): Promise<readonly string[]>;
  /** How much room there is in a directory, in bytes; undefined where that cannot be asked. */
  freeBytes(path: string): Promise<number | undefined>;
  /** Runs a program to its end; undefined where it is not there. */
  run(program: string, args: readonly string[]): Promise<string | undefined>;
  /** What the host launcher knows. */
  facts(): Promise<HostFacts>;
  /** The version of the WebAssembly engine, opened as the sandboxer opens it. */
  wasmEdge(): Promise<string>;
  /** Configurations of the sandboxers. */
  vmmConfig(): Promise<ReadConfiguration<VmmConfig>>;
  /** See {@link DoctorHost.vmmConfig}. */
  quarkConfig(): Promise<ReadConfiguration<QuarkConfig>>;
  /** The version of QEMU. */
  qemu(config: VmmConfig): Promise<string>;
  /** Runs a tiny guest, and says who executed it, and why. */
  tryMachine(config: VmmConfig, facts: HostFacts): Promise<{
    readonly accelerator: "kvm" | "tcg";
    readonly why: string;
  }>;
  /** Looks at runsc. */
  runsc(program: string): Promise<RunscCheck>;
  /** Runs a tiny container, and says how its system calls were caught. */
  tryRunsc(config: QuarkConfig, facts: HostFacts): Promise<{
    readonly platform: string;
    readonly why: string;
  }>;
  /** What containerd's configuration has of the sections of some kinds. */
  containerdSections(kinds: readonly ("wasm" | "vmm" | "gvisor")[]): Promise<ContainerdSections>;
  /** Where containerd looks for CNI. */
  cniPlaces(): Promise<CniPlaces>;
  /** Sandboxers that listen, and those that do not answer. */
  sandboxers(): Promise<readonly (RunningSandboxer | SilentSandboxer)[]>;
}
