/**
 * What a caller asks for: plain data that adapters (Sandbox API, Task API, command line, SDK) make
 * once and that lifecycle and drivers read. Nothing here knows protobuf, OCI JSON or a driver.
 *
 * @module
 */

/** A JSON value: what can be stored in a record and read back equal. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/**
 * Where a sandbox's network lives: the host's own; a network namespace that CNI has set up; nowhere,
 * but for its loopback; or behind the address translation of a plain user's program. Not every kind
 * of sandbox has all of them.
 */
export type NetworkSpec =
  | { readonly kind: "host" }
  | { readonly kind: "namespace"; readonly path: string }
  | { readonly kind: "none" }
  | {
    readonly kind: "user";
    /** Ports of this host that lead to it; missing for none. */
    readonly ports?: readonly PublishedPort[];
  };

/** A port of this host that leads to one of a sandbox. */
export interface PublishedPort {
  /** The address of this host, IPv4; `0.0.0.0` for all. */
  readonly address: string;
  /** The port there. */
  readonly hostPort: number;
  /** The port in the sandbox. */
  readonly containerPort: number;
  /** What is spoken. */
  readonly protocol: "tcp" | "udp";
}

/** DNS settings of a pod, as kubelet computed them. */
export interface DnsSpec {
  /** Nameserver addresses. */
  readonly servers: readonly string[];
  /** Search domains. */
  readonly searches: readonly string[];
  /** resolv.conf options such as `ndots:5`. */
  readonly options: readonly string[];
}

/** Limits of a sandbox or a container. A missing field means no limit. */
export interface ResourceSpec {
  /** Memory limit in bytes. */
  readonly memoryBytes?: number;
  /** CPU quota in microseconds per period. */
  readonly cpuQuotaUs?: number;
  /** CPU period in microseconds. */
  readonly cpuPeriodUs?: number;
  /** Relative CPU weight as cgroup v1 shares (2 to 262144). */
  readonly cpuShares?: number;
  /** CPUs that may be used, as a cpuset list such as `0-1`. */
  readonly cpusetCpus?: string;
  /** Most processes and threads. */
  readonly pids?: number;
}

/** A sandbox (pod) to create. */
export interface SandboxSpec {
  /** Unique among the sandboxes of one sandboxer; letters, digits, `.`, `_`, `-`. */
  readonly id: string;
  /** The containerd namespace of the caller, such as `k8s.io`; events are published under it. */
  readonly namespace: string;
  /** The name a person knows the sandbox by. */
  readonly name: string;
  /** containerd's runtime type of the handler that was asked for; missing without containerd. */
  readonly runtime?: string;
  /** Hostname inside; empty for the host's. */
  readonly hostname: string;
  /** Where its network lives. */
  readonly network: NetworkSpec;
  /** How names are looked up in it. */
  readonly dns: DnsSpec;
  /** The pod's cgroup below each hierarchy's root, such as `/kubepods/pod1`; empty for none. */
  readonly cgroupParent: string;
  /** Limits of the whole sandbox. */
  readonly resources: ResourceSpec;
  /** Kernel settings of the pod by name with dots; missing for none. */
  readonly sysctls?: Readonly<Record<string, string>>;
  /** The pod's labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** The pod's annotations. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** Where one standard stream of a process goes. */
export type StreamSpec =
  | { readonly kind: "null" }
  /**
   * A FIFO (containerd's) or a plain file, by absolute path. The reader of a patient one may take as
   * long as it likes, also after the end of who writes.
   */
  | { readonly kind: "path"; readonly path: string; readonly isPatient?: boolean }
  /** A descriptor of this process; it stays the caller's and is not closed by the driver. */
  | { readonly kind: "fd"; readonly fd: number }
  /**
   * A stream of this process, for callers inside of it: a readable one for standard input, a
   * writable one for outputs. The process takes it over and closes it. Only where nothing is stored
   * on disk, and not every kind of sandbox takes it.
   */
  | { readonly kind: "readable"; readonly readable: ReadableStream<Uint8Array> }
  | { readonly kind: "writable"; readonly writable: WritableStream<Uint8Array> };

/** The standard streams of a process. */
export interface StdioSpec {
  /** Standard input. */
  readonly stdin: StreamSpec;
  /** Standard output. */
  readonly stdout: StreamSpec;
  /** Standard error. */
  readonly stderr: StreamSpec;
  /** Whether the process wants a terminal; then stdout carries both outputs. */
  readonly terminal: boolean;
  /** The terminal's first size in characters; missing for the kind's own choice. */
  readonly terminalSize?: { readonly columns: number; readonly rows: number };
}

/** A process to run in a container: its init, or an exec beside it. */
export interface ProcessSpec {
  /** Command and arguments, at least one. */
  readonly args: readonly string[];
  /** Environment as `KEY=value`. */
  readonly env: readonly string[];
  /** Working directory inside, absolute. */
  readonly cwd: string;
  /** Who it runs as. */
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly additionalGids: readonly number[];
  };
  /** Most files that it may have open at a time (RLIMIT_NOFILE, soft); missing for the kind's own. */
  readonly descriptorsMax?: number;
  /** What it may do beyond what its user may; missing for the kind's own. */
  readonly capabilities?: CapabilitySpec;
  /** Whether programs with set-user-id bits give it no rights; missing for no. */
  readonly noNewPrivileges?: boolean;
  /** Limits of what it may use; missing for the kind's own. */
  readonly rlimits?: readonly RlimitSpec[];
  /** Permission bits that files it makes do not have (umask(2)); missing for the kind's own. */
  readonly umask?: number;
  /** How much sooner than others it is killed for want of memory, -1000 to 1000; missing for 0. */
  readonly oomScoreAdjust?: number;
}

/** Sets of capabilities, each by names such as `CAP_CHOWN` (capabilities(7)). */
export interface CapabilitySpec {
  /** What it and its children can ever have. */
  readonly bounding: readonly string[];
  /** What counts now. */
  readonly effective: readonly string[];
  /** What a program with file capabilities can keep. */
  readonly inheritable: readonly string[];
  /** What it can switch on. */
  readonly permitted: readonly string[];
  /** What its children keep. */
  readonly ambient: readonly string[];
}

/** A limit of what a process may use (getrlimit(2)). */
export interface RlimitSpec {
  /** Such as `RLIMIT_NOFILE`. */
  readonly type: string;
  /** What counts now; -1 for no limit. */
  readonly soft: number;
  /** What it can be raised to; -1 for no limit. */
  readonly hard: number;
}

/** A bind mount of a host directory or file into a container. */
export interface BindMountSpec {
  /** Host path, absolute. */
  readonly source: string;
  /** Path inside the container, absolute. */
  readonly destination: string;
  /** Whether it cannot be written to. */
  readonly readonly: boolean;
}

/** A mount that makes up a root file system, as a snapshotter describes it (mount(8) terms). */
export interface RootfsMount {
  /** `overlay` or `bind`. */
  readonly type: string;
  /** What is mounted, in the terms of its type. */
  readonly source: string;
  /** Mount options, as in mount(8). */
  readonly options: readonly string[];
}

/** How a container gets its root file system. */
export type RootfsSpec =
  /** A directory that is there already and stays the caller's. */
  | { readonly kind: "directory"; readonly path: string }
  /** Mounts that the lifecycle makes at `target` and takes away again. */
  | { readonly kind: "mounts"; readonly target: string; readonly mounts: readonly RootfsMount[] };

/** A container to create in a sandbox. */
export interface ContainerSpec {
  /** Unique among the containers of one sandboxer. */
  readonly id: string;
  /** The sandbox it is to run in. */
  readonly sandboxId: string;
  /** The containerd bundle directory; empty without containerd. */
  readonly bundle: string;
  /** Where its root file system comes from. */
  readonly rootfs: RootfsSpec;
  /** Whether its root file system cannot be written to. */
  readonly readonlyRootfs: boolean;
  /** Its init process. */
  readonly process: ProcessSpec;
  /** What it sees of the host. */
  readonly mounts: readonly BindMountSpec[];
  /** Where the streams of its init process go. */
  readonly stdio: StdioSpec;
  /** Limits of the container. */
  readonly resources: ResourceSpec;
  /** The container's annotations. */
  readonly annotations: Readonly<Record<string, string>>;
  /** System calls that its processes may make; missing for no such limit. */
  readonly seccomp?: SeccompSpec;
}

/** A condition on an argument of a system call (libseccomp's comparison operators). */
export interface SeccompArgument {
  /** Which argument, 0 to 5. */
  readonly index: number;
  /** How it is compared. */
  readonly operator: "ne" | "lt" | "le" | "eq" | "ge" | "gt" | "masked-eq";
  /** What with; the mask for `masked-eq`. Decimal, as 64 bits do not fit a number. */
  readonly value: string;
  /** What the masked argument is compared with; decimal, `0` for other operators. */
  readonly valueTwo: string;
}

/** What happens at a system call. `deny` answers with an error number. */
export type SeccompAction =
  | { readonly kind: "allow" }
  | { readonly kind: "deny"; readonly errno: number };

/** Which system calls processes may make (OCI runtime specification, `linux.seccomp`). */
export interface SeccompSpec {
  /** What happens at calls that no rule names. */
  readonly defaultAction: SeccompAction;
  /** The rules; where several fit, the first counts. */
  readonly rules: readonly {
    /** System calls by name. */
    readonly names: readonly string[];
    /** What happens at them. */
    readonly action: SeccompAction;
    /** Conditions, all of which hold; none for every call. */
    readonly args: readonly SeccompArgument[];
  }[];
}

/** The directory a container's root file system is (or will be) at. */
export function rootfsPath(rootfs: RootfsSpec): string {
  return rootfs.kind === "directory" ? rootfs.path : rootfs.target;
}

/** A process to run beside a container's init. */
export interface ExecSpec {
  /** Unique in its container. */
  readonly id: string;
  /** What to run. */
  readonly process: ProcessSpec;
  /** Where its streams go. */
  readonly stdio: StdioSpec;
}

/** The status of what ended in a way nobody saw: as containerd gives it. */
export const LOST_STATUS = 255;

/** The status of a process that died with its container or sandbox: as if killed by SIGKILL. */
export const KILLED_STATUS = 137;

/** How a process or a sandbox ended. */
export interface Exit {
  /** Exit status 0 to 255; 128 + n after signal n; 137 where it was killed or lost. */
  readonly status: number;
  /** When, in milliseconds since the epoch. */
  readonly at: number;
  /**
   * `exited`: it ended by itself; `signaled`: it was killed; `trap`: the guest broke a rule of its
   * machine; `oom`: it ran out of memory; `lost`: it died with its sandbox or sandboxer.
   */
  readonly reason: "exited" | "signaled" | "trap" | "oom" | "lost";
  /** What is known beyond the status, for people. */
  readonly message?: string;
}

/** What a container or sandbox uses at one moment. */
export interface Stats {
  /** When it was measured, in milliseconds since the epoch. */
  readonly at: number;
  /** CPU time used so far, in nanoseconds. */
  readonly cpuNs: number;
  /** Memory in use, in bytes. */
  readonly memoryBytes: number;
  /** Memory limit in bytes; missing where there is none. */
  readonly memoryLimitBytes?: number;
  /** Pages of 64 KiB of WebAssembly linear memory; missing where guests are something else. */
  readonly memoryPages?: number;
  /** Processes and threads. */
  readonly pids: number;
}
