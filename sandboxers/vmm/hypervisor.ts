/**
 * What a virtual machine monitor has to be able to do, whichever program it is. A VMM runs as an
 * external process without network and with few rights; it is reached over two sockets in its
 * directory: one to control it, one to the agent in its guest.
 *
 * @module
 */

import type { Json, PublishedPort } from "../lifecycle/spec.ts";

/** What a machine is made of. All of it is in the key of a template. */
export interface MachineSpec {
  /** `microvm` or `q35` for QEMU. */
  readonly machine: string;
  /** Further machine options, as the VMM takes them; empty for none. */
  readonly machineOptions: string;
  /** Who executes the guest's code. */
  readonly accelerator: "kvm" | "tcg";
  /** The CPU model; empty for the accelerator's best. */
  readonly cpuModel: string;
  /** CPUs at the start. */
  readonly cpus: number;
  /** CPUs that it can grow to; at least `cpus`. */
  readonly cpusMax: number;
  /** Memory at the start, in bytes; a multiple of 2 MiB. */
  readonly memoryBytes: number;
  /** Memory that it can grow to, in bytes; at least `memoryBytes`. */
  readonly memoryMaxBytes: number;
  /** Whether its memory is made of huge pages. */
  readonly hugepages: boolean;
  /** The kernel, an absolute path. */
  readonly kernel: string;
  /** The initrd that holds the agent, an absolute path. */
  readonly initrd: string;
  /** Kernel parameters beside our own; empty for none. */
  readonly kernelParams: string;
  /** The host's source of entropy for the guest, such as `/dev/urandom`. */
  readonly entropySource: string;
  /** How its network interfaces are connected. */
  readonly network: "tap" | "user" | "none";
  /** How many network interfaces it has; 0 with `none`, 1 with `user`. */
  readonly interfaces: number;
  /** How many disks can be attached without plugging in a device. */
  readonly diskSlots: number;
  /** Whether it has a shared tree of files (virtiofs); then it needs shared memory. */
  readonly sharedTree: boolean;
  /** Whether the guest's console is kept in the file `console.log` of its directory. */
  readonly console: boolean;
}

/** Where a machine runs. */
export interface MachinePlace {
  /** Unique on this host; the id of its pod, or of its place in the pool. */
  readonly id: string;
  /** Its own directory, which is there and belongs to `user`: sockets, logs, state. */
  readonly directory: string;
  /** The user and group that the VMM runs as; undefined for this process's own. */
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
  /** Cgroups to start in: paths below the hierarchies' roots; empty for this process's own. */
  readonly cgroup: string;
  /** The socket of the file server for the shared tree; undefined without one. */
  readonly sharedTreeSocket: string | undefined;
  /**
   * The file that the guest's memory lives in, which is made; missing for memory without a name.
   * Saving a machine with one takes only as long as a copy of it, and its clones share its pages:
   * what a template needs. With a copy of a saved machine's memory: where the copy goes.
   */
  readonly memoryFile?: string;
}

/** How a VMM ended. */
export interface MachineExit {
  /**
   * `stopped`: it was told to; `powerOff`: the guest switched itself off; `panic`: the guest's kernel
   * gave up; `crash`: the VMM died or its accelerator failed.
   */
  readonly reason: "stopped" | "powerOff" | "panic" | "crash";
  /** When, in milliseconds since the epoch. */
  readonly at: number;
  /** What is known beyond that, for people: the end of its log, the signal that it died of. */
  readonly message: string;
}

/** A disk to attach. */
export interface DiskSpec {
  /** The file or block device on the host; the VMM's user must be able to read it. */
  readonly path: string;
  /** Its serial number in the guest: letters, digits and `-`, at most 20. */
  readonly serial: string;
  /** Whether the guest can only read it. */
  readonly readonly: boolean;
}

/** A running (or paused) machine. */
export interface Machine {
  /** The VMM's process id. */
  readonly pid: number;
  /** What {@link Hypervisor.adopt} needs later; plain JSON. */
  readonly record: Json;
  /** The unix socket of the agent, an absolute path. */
  readonly agentSocket: string;
  /** The names of its tap devices in the VMM's own network namespace, in the order of the guest's. */
  readonly taps: readonly string[];
  /** Settles once, when the VMM has ended; never rejects. */
  readonly exited: Promise<MachineExit>;
  /** Lets it run. Does nothing where it runs. */
  resume(signal?: AbortSignal): Promise<void>;
  /** Makes it stand still. */
  pause(): Promise<void>;
  /**
   * Attaches a disk. The serial number that the guest finds it by is in the answer: it may be that
   * of a slot that the machine had already.
   */
  attachDisk(disk: DiskSpec, signal: AbortSignal): Promise<{ readonly serial: string }>;
  /** Detaches a disk by the serial of the answer; the guest no longer uses it. */
  detachDisk(serial: string): Promise<void>;
  /**
   * Grows it; what is online in the guest is the agent's. Missing where the VMM cannot.
   *
   * @throws {SandboxError} `Unimplemented`, `ResourceExhausted` beyond its maximum.
   */
  grow?(size: { readonly cpus: number; readonly memoryBytes: number }): Promise<void>;
  /**
   * Saves it with its memory into a directory; it goes on afterwards where `resume` is set.
   * Missing where the VMM cannot.
   */
  save?(directory: string, options: { readonly resume: boolean }): Promise<void>;
  /**
   * Lets ports of this host lead to it, where its network is `user`. Missing where the VMM cannot.
   *
   * @throws {SandboxError} `FailedPrecondition` for a port that cannot be had.
   */
  publish?(ports: readonly PublishedPort[], signal: AbortSignal): Promise<void>;
  /** Ends the VMM, at once and for sure, and removes its sockets. May be called more than once. */
  stop(): Promise<void>;
  /** Forgets it without ending it: another process will adopt it. */
  release(): void;
}

/** A machine that was saved, on disk. */
export interface SavedMachine {
  /** The directory that {@link Machine.save} wrote. */
  readonly directory: string;
  /** What it was made of. */
  readonly spec: MachineSpec;
}

/** How a clone begins. */
export interface CloneOptions {
  /** Whether it stands still until it is resumed. */
  readonly paused: boolean;
  /**
   * `private`: the saved memory is mapped copy-on-write; `copy`: it gets a copy of its own, which
   * a shared tree needs.
   */
  readonly memory: "private" | "copy";
  /**
   * Where the images of its disks are now, by the serial numbers of the disks; missing ones, and all
   * where this is missing, are where they were when it was saved.
   */
  readonly images?: ReadonlyMap<string, string>;
}

/** A virtual machine monitor. */
export interface Hypervisor {
  /** Its name, such as `qemu`. */
  readonly name: string;
  /** Its version, which is in the key of templates. */
  version(): Promise<string>;
  /**
   * Boots a machine.
   *
   * @throws {SandboxError} `FailedPrecondition` where the VMM, kernel or initrd is missing or the VMM
   *   refuses to start, with its own words; `Cancelled`.
   */
  boot(spec: MachineSpec, place: MachinePlace, signal: AbortSignal): Promise<Machine>;
  /** Starts a machine from a saved one. Missing where the VMM cannot. */
  clone?(
    saved: SavedMachine,
    place: MachinePlace,
    options: CloneOptions,
    signal: AbortSignal,
  ): Promise<Machine>;
  /**
   * Finds a machine that was saved, by its directory alone: what it was made of is there too. Missing
   * where the VMM cannot.
   *
   * @throws {SandboxError} `FailedPrecondition` where it is damaged, or this VMM cannot load it.
   */
  saved?(directory: string): Promise<SavedMachine>;
  /**
   * Takes a machine over that an earlier process started.
   *
   * @returns undefined where it has ended; what was left of it is removed then.
   */
  adopt(record: Json): Promise<Machine | undefined>;
}
