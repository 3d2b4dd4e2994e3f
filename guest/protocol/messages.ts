/**
 * What host and guest agent say to each other: the requests with their arguments and results, and
 * the events that the agent sends unasked. One definition for both sides, plain JSON; how it
 * travels is the business of the frames. The host is trusted by the guest; what the guest says is
 * checked by the host (see `checks.ts`) before anything is done with it.
 *
 * @module
 */

/** The version of this protocol; both sides say theirs in `hello`, and they must be equal. */
export const PROTOCOL_VERSION = 1;

/** A JSON value. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** A JSON object. */
export type JsonObject = { readonly [key: string]: Json };

/** Who the agent is. */
export interface Hello {
  /** {@link PROTOCOL_VERSION} of the agent. */
  readonly protocol: number;
  /** The agent's own version, for people. */
  readonly agent: string;
  /** The guest kernel's release, as uname(2) has it. */
  readonly kernel: string;
  /** What went wrong while the guest came up and was survived; empty where all is well. */
  readonly warnings: readonly string[];
}

/** A network interface of the guest, found by its MAC address. */
export interface GuestInterface {
  /** The name it gets, such as `eth0`. */
  readonly name: string;
  /** Which virtual device it is, counted from 0 in the order of the PCI bus. */
  readonly device: number;
  /** The MAC address it gets, such as `02:00:00:00:00:01`. */
  readonly mac: string;
  /** The largest packet in bytes. */
  readonly mtu: number;
  /** Addresses with prefix length, IPv4 and IPv6. */
  readonly addresses: readonly string[];
}

/** A route of the guest. */
export interface GuestRoute {
  /** Where to: an address with prefix length, or `default`. */
  readonly destination: string;
  /** `inet` or `inet6`. */
  readonly family: "inet" | "inet6";
  /** By way of; missing where the destination is on the link. */
  readonly gateway?: string;
  /** The interface's name. */
  readonly interface: string;
  /** `link`, `global` or `host`; missing for the kernel's choice. */
  readonly scope?: string;
  /** The source address that packets get; missing for the kernel's choice. */
  readonly source?: string;
  /** The lower wins; missing for the kernel's choice. */
  readonly metric?: number;
  /** Whether the gateway counts as on the link, whatever its address is. */
  readonly onlink?: boolean;
}

/** A known neighbour (static ARP or NDP entry). */
export interface GuestNeighbour {
  /** Its address. */
  readonly address: string;
  /** Its MAC address. */
  readonly mac: string;
  /** The interface's name. */
  readonly interface: string;
}

/** What turns a fresh guest, or a clone of a template, into one pod's own. */
export interface SetupArgs {
  /** The time, in milliseconds since the epoch. */
  readonly timeMs: number;
  /** Entropy of this pod only, base64, at least 32 bytes. */
  readonly seed: string;
  /** The hostname; empty for `quasaur`. */
  readonly hostname: string;
  /** 32 hexadecimal digits (machine-id(5)). */
  readonly machineId: string;
  /** Interfaces to configure; none for loopback only. */
  readonly interfaces: readonly GuestInterface[];
  /** Routes, in an order in which they can be added. */
  readonly routes: readonly GuestRoute[];
  /** Static neighbours. */
  readonly neighbours: readonly GuestNeighbour[];
  /** The content of the pod's files that containers see at /etc, unless they bring their own. */
  readonly files: {
    readonly hosts: string;
    readonly hostname: string;
    readonly resolvConf: string;
  };
  /** Size of the pod's /dev/shm in bytes. */
  readonly shmBytes: number;
  /** Kernel settings by name with dots, such as `net.ipv4.ip_forward`. */
  readonly sysctls: Readonly<Record<string, string>>;
}

/** What a guest that was saved with its memory gets anew, before anything in it goes on. */
export type RenewArgs = Pick<SetupArgs, "timeMs" | "seed" | "machineId">;

/** Where the files of a container's root come from, seen from the guest. */
export type GuestRootfs =
  /** A file system image on a disk, found by the disk's serial number; read-only. */
  | { readonly kind: "disk"; readonly serial: string; readonly fsType: "erofs" | "ext4" }
  /** A directory of the shared tree, which is alive on the host; relative to the tree's root. */
  | { readonly kind: "shared"; readonly path: string };

/** A mount of a container whose source is not in the container's own config. */
export type GuestMount =
  & {
    /** Where the container sees it: absolute. */
    readonly destination: string;
    /** Whether it cannot be written to. */
    readonly readonly: boolean;
  }
  & (
    /** A file or directory of the shared tree (virtiofs); relative to the tree's root. */
    | { readonly kind: "shared"; readonly path: string }
    /**
     * A file or directory that the host sends and keeps up to date by `volumeSync`; `.` is the
     * volume's own directory.
     */
    | { readonly kind: "volume"; readonly volume: string; readonly path: string }
    /** A directory in the guest's memory, shared by the pod's containers that name it. */
    | {
      readonly kind: "memory";
      readonly name: string;
      readonly sizeBytes?: number;
      /** Whose it is and its mode when it is made; missing for root's with mode 0777. */
      readonly owner?: { readonly uid: number; readonly gid: number; readonly mode: number };
    }
    /** The pod's /dev/shm. */
    | { readonly kind: "shm" }
    /** One of the pod's files (see {@link SetupArgs.files}). */
    | { readonly kind: "podFile"; readonly file: "hosts" | "hostname" | "resolvConf" }
  );

/** The byte streams of a process; each id is chosen by the host and used once. */
export interface GuestStdio {
  /** Host to guest; missing for none (the process reads the end at once). */
  readonly stdin?: number;
  /** Guest to host; missing to throw the output away. */
  readonly stdout?: number;
  /** Guest to host; missing to throw it away, and with a terminal. */
  readonly stderr?: number;
  /** The terminal's first size; missing for no terminal. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
}

/** A container to create. */
export interface CreateContainerArgs {
  /** Unique in the guest. */
  readonly id: string;
  /**
   * The OCI configuration (runtime-spec config.json) as far as it holds inside of the guest:
   * process, root.readonly, hostname, linux without host paths, and mounts that need no source of
   * the host (proc, sysfs, tmpfs, devpts, mqueue, cgroup).
   */
  readonly config: JsonObject;
  /** Where its root file system comes from. */
  readonly rootfs: GuestRootfs;
  /** Mounts beside those of the config, in the order in which they are made. */
  readonly mounts: readonly GuestMount[];
  /** Which process ids it sees: its own, or those of all containers of the pod that say `pod`. */
  readonly pidNamespace: "own" | "pod";
  /** Streams of its init process. */
  readonly stdio: GuestStdio;
}

/** Names a process: a container's init under an empty exec id, or one beside it. */
export interface ProcessName {
  /** The container. */
  readonly container: string;
  /** The exec; empty for the init process. */
  readonly exec: string;
}

/** How a process ended. */
export interface ProcessExit extends ProcessName {
  /** 0 to 255; 128 + n after signal n. */
  readonly status: number;
  /** When, in milliseconds since the epoch, by the guest's clock. */
  readonly atMs: number;
  /** Whether the kernel killed something in the container for want of memory. */
  readonly oom: boolean;
  /** Whether it was killed by a signal. */
  readonly signaled: boolean;
}

/** What a container uses now. */
export interface ContainerUsage {
  /** The container. */
  readonly container: string;
  /** CPU time so far, in microseconds (cpu.stat usage_usec). */
  readonly cpuUs: number;
  /** Memory in bytes (memory.current). */
  readonly memoryBytes: number;
  /** Memory that could be freed at once, in bytes (memory.stat inactive_file). */
  readonly inactiveFileBytes: number;
  /** Limit in bytes; missing where there is none. */
  readonly memoryLimitBytes?: number;
  /** Processes and threads (pids.current). */
  readonly pids: number;
}

/** What the whole guest uses now. */
export interface GuestUsage {
  /** Memory that the kernel manages, in bytes. */
  readonly memoryTotalBytes: number;
  /** Memory that could be used without swapping, in bytes. */
  readonly memoryAvailableBytes: number;
  /** Load of the last minute. */
  readonly load: number;
  /** CPU time of the whole guest that was not idle, in microseconds. */
  readonly cpuUs: number;
  /** Each container. */
  readonly containers: readonly ContainerUsage[];
}

/**
 * One change to a volume's files. Paths are relative, without `..` and empty parts; `.` is the
 * volume's own directory, which only a `directory` can name. A directory above a path that is
 * missing is made (0755, root's). What is there already in another kind gives way. A `link` takes an
 * old one's place in one step (rename), as kubelet's `..data` needs it. No link on the way to a path
 * is followed.
 */
export type VolumeEntry =
  | {
    readonly kind: "file";
    readonly path: string;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    /** The content, base64; a long file comes in several entries with rising `offset`. */
    readonly data: string;
    /** Where `data` belongs; 0 begins a new file that takes the old one's place when it is whole. */
    readonly offset: number;
    /** Whether `data` is the last of the file. */
    readonly last: boolean;
  }
  | {
    readonly kind: "directory";
    readonly path: string;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
  }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "gone"; readonly path: string };

/** Most bytes that one `volumeRead` asks for. */
export const VOLUME_READ_BYTES_MAX: number = 64 << 10;

/** Most bytes of files that the host puts into one `volumeSync`, before base64. */
export const VOLUME_SYNC_BYTES_MAX: number = 256 << 10;

/** Most entries that the host puts into one `volumeSync`. */
export const VOLUME_SYNC_ENTRIES_MAX = 200;

/** Every request: what the host asks, and what the agent answers. */
export interface Requests {
  /** Asks who is there. Also the first request on every new connection. */
  hello: { args: Record<never, never>; result: Hello };
  /** Makes the guest one pod's own; once, before any container. */
  setup: { args: SetupArgs; result: Record<never, never> };
  /** Makes a guest that was set up, and then saved with its memory, another one than the original. */
  renew: { args: RenewArgs; result: Record<never, never> };
  /**
   * Walks through what the start of a pod does, and leaves nothing of it; before `setup`. For a clone
   * that is kept ready: an emulated machine translates code when it runs for the first time. With
   * `container` a container is made too (and does not run), which costs memory of the host.
   */
  rehearse: { args: { readonly container: boolean }; result: Record<never, never> };
  /** Sets the clock. */
  setTime: { args: { readonly timeMs: number }; result: Record<never, never> };
  /** Mounts the shared tree of the host. */
  mountShared: { args: { readonly tag: string }; result: Record<never, never> };
  /** Brings files of a volume up to date; entries are applied in order. */
  volumeSync: {
    args: { readonly volume: string; readonly entries: readonly VolumeEntry[] };
    result: Record<never, never>;
  };
  /**
   * Reads a piece of a volume's file, which containers may have written to (such as the termination
   * log, which the host hands on when the container has ended).
   */
  volumeRead: {
    args: {
      readonly volume: string;
      readonly path: string;
      /** Where the piece begins, in bytes. */
      readonly offset: number;
      /** Its length in bytes; at most {@link VOLUME_READ_BYTES_MAX}. */
      readonly length: number;
    };
    /** `data` is base64, shorter than `length` only at the file's end; `NotFound` where there is no regular file. */
    result: { readonly data: string; readonly sizeBytes: number };
  };
  /** Makes a container ready to start. */
  createContainer: { args: CreateContainerArgs; result: { readonly pid: number } };
  /** Starts its init process. */
  startContainer: { args: { readonly container: string }; result: Record<never, never> };
  /** Starts a process beside the init; `process` is OCI's `process` object. */
  exec: {
    args: {
      readonly container: string;
      readonly exec: string;
      readonly process: JsonObject;
      readonly stdio: GuestStdio;
    };
    result: { readonly pid: number };
  };
  /** Sends a signal to a process; does nothing where it has ended. */
  kill: {
    args: ProcessName & { readonly signal: number; readonly all?: boolean };
    result: Record<never, never>;
  };
  /** Sets the size of a process's terminal. */
  resize: {
    args: ProcessName & { readonly columns: number; readonly rows: number };
    result: Record<never, never>;
  };
  /** Freezes a container. */
  pause: { args: { readonly container: string }; result: Record<never, never> };
  /** Thaws a container. */
  resume: { args: { readonly container: string }; result: Record<never, never> };
  /** Changes limits; `resources` is OCI's `linux.resources`. */
  update: {
    args: { readonly container: string; readonly resources: JsonObject };
    result: Record<never, never>;
  };
  /** The process ids of a container, as its guest sees them. */
  pids: { args: { readonly container: string }; result: { readonly pids: readonly number[] } };
  /** Kills what still runs in a container and releases all it holds, its rootfs too. */
  deleteContainer: { args: { readonly container: string }; result: Record<never, never> };
  /** What the guest and its containers use. */
  usage: { args: Record<never, never>; result: GuestUsage };
  /**
   * What the agent has: for a host that was restarted. Exits that nobody has acknowledged are told
   * again as events after this.
   */
  inventory: {
    args: Record<never, never>;
    result: {
      readonly containers: readonly {
        readonly container: string;
        readonly state: "created" | "running" | "paused" | "stopped";
        readonly processes: readonly {
          readonly exec: string;
          readonly pid: number;
          readonly stdio: GuestStdio;
        }[];
      }[];
      /** The highest stream id that was ever used. */
      readonly lastStream: number;
    };
  };
  /** The host has taken note of an exit; the agent forgets it. */
  acknowledgeExit: { args: ProcessName; result: Record<never, never> };
  /** Makes CPUs and memory that were plugged in usable. */
  online: { args: Record<never, never>; result: { readonly cpus: number } };
  /** Gives back what memory it can, so that a template is small. */
  quiesce: { args: Record<never, never>; result: Record<never, never> };
  /** Unmounts all and powers off; the answer comes before. */
  powerOff: { args: Record<never, never>; result: Record<never, never> };
}

/** The name of a request. */
export type RequestName = keyof Requests;

/** What the agent says unasked. */
export type AgentEvent =
  /** The guest has come up, or a host has connected again. */
  | { readonly kind: "ready"; readonly hello: Hello }
  /**
   * A process has ended, and the ends of its outputs follow. Told again until it is acknowledged.
   */
  | { readonly kind: "exit"; readonly exit: ProcessExit }
  /** The kernel killed something in a container for want of memory. */
  | { readonly kind: "oom"; readonly container: string }
  /** A note for the host's log. */
  | { readonly kind: "log"; readonly level: "warn" | "error"; readonly message: string };

/** Codes of errors that the agent answers with; those of the lifecycle's errors that make sense. */
export const AGENT_ERROR_CODES = [
  "InvalidArgument",
  "NotFound",
  "AlreadyExists",
  "FailedPrecondition",
  "ResourceExhausted",
  "Unimplemented",
  "Internal",
] as const;

/** See {@link AGENT_ERROR_CODES}. */
export type AgentErrorCode = typeof AGENT_ERROR_CODES[number];

/** An error answer. */
export interface AgentFailure {
  /** What kind of error. */
  readonly code: AgentErrorCode;
  /** The failed action first; for people. */
  readonly message: string;
}
