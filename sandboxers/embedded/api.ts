/**
 * The interfaces that programs see: a sandboxer in this process, its sandboxes, their containers.
 * Nothing here runs anything; `open.ts` makes the first object and each makes the next.
 *
 * @module
 */

import type { UserChoice } from "../images/process.ts";
import type { Exit, NetworkSpec, Stats } from "../lifecycle/spec.ts";

/** The kinds of sandbox that can be opened in a process. */
export type SandboxKind = "wasm" | "vmm" | "gvisor";

/**
 * What runs WebAssembly modules: WasmEdge, or V8, which is part of this program, gives guests no
 * sockets, and takes longer to start them.
 */
export type WasmEngine = "wasmedge" | "v8";

/** Options of `open`. */
export interface OpenOptions {
  /**
   * The engine. Default: WasmEdge; V8, with a warning, where WasmEdge is not installed.
   */
  readonly engine?: WasmEngine;
  /**
   * Where private directories are made for modules that run without a root file system of their
   * own. Default: the system's directory for temporary files.
   */
  readonly temporaryDirectory?: string;
  /**
   * Where compiled code of modules is kept; made where it is missing. Only this user or root may be
   * able to write to it. Default: the system's is looked into where this program may read and write
   * it, and nothing is compiled.
   */
  readonly cacheDirectory?: string;
  /** Hears of what went wrong and was survived, such as a directory that could not be removed. */
  readonly onWarning?: (message: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** Where images come from, and where they are kept. */
  readonly images?: ImageOptions;
}

/** Where images come from, and where they are kept. */
export interface ImageOptions {
  /**
   * Where they are kept without their compression, each once; made where it is missing. Default:
   * `/var/cache/quasaur/images` for root, else a private directory of this user below `/tmp`.
   */
  readonly directory?: string;
  /** Which containerd has them. Default: the one of this host, namespaces `k8s.io` and `default`. */
  readonly containerd?: {
    /** Its socket, an absolute path. */
    readonly address?: string;
    /** The namespaces in which images are looked for: the first that has it. */
    readonly namespaces?: readonly string[];
  };
  /** Hears how far the unpacking of an image is, the first time it is used. */
  readonly onProgress?: (progress: ImageProgress) => void;
}

/** How far the unpacking of an image is. */
export interface ImageProgress {
  /** The image. */
  readonly image: string;
  /** Bytes of its layers that were read, as they are stored. */
  readonly doneBytes: number;
  /** Bytes of all its layers, as they are stored. */
  readonly allBytes: number;
}

/** Runs sandboxes in this process. Disposing of it ends everything that it runs. */
export interface Sandboxer extends AsyncDisposable {
  /** The kind that was opened. */
  readonly kind: "wasm";
  /**
   * Creates and starts a sandbox.
   *
   * @throws {SandboxError} `AlreadyExists` for an id in use, `InvalidArgument`, `Cancelled`,
   *   `FailedPrecondition` after disposal, or what the kind reports.
   */
  createSandbox(options?: SandboxOptions): Promise<Sandbox>;
}

/** Options of {@link Sandboxer.createSandbox}. */
export interface SandboxOptions {
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /** Where its sockets live: this host (the default), or a network namespace by path. */
  readonly network?: NetworkSpec;
  /** Aborting it gives the start up. */
  readonly signal?: AbortSignal;
}

/** A started sandbox. Disposing of it ends its containers and releases everything. */
export interface Sandbox extends AsyncDisposable {
  /** Its id. */
  readonly id: string;
  /**
   * Runs a module in a container of its own.
   *
   * @throws {SandboxError} `InvalidArgument` for a bad option or module, `NotFound` where the
   *   module is missing, `AlreadyExists` for an id in use, `Cancelled` on abort,
   *   `FailedPrecondition` after disposal, or what the kind reports.
   */
  run(options: RunOptions): Promise<Container>;
  /** What the sandbox uses now. */
  stats(): Promise<Stats>;
}

/**
 * Where a standard stream goes: `piped` to a stream of the container object, `inherit` to that of
 * this process, `null` to nowhere.
 */
export type StdioMode = "piped" | "inherit" | "null";

/** A host directory that a container sees. */
export interface DirectoryMount {
  /** The host's directory; relative to the working directory of this process. */
  readonly source: string;
  /** Where the container sees it: an absolute path below `/`. */
  readonly destination: string;
  /** Whether the container may only read it. Default `false`. */
  readonly readonly?: boolean;
}

/** What to run, and how. */
export interface RunOptions {
  /**
   * The WebAssembly module: a file of the host, by path or `file:` URL, or its bytes. With `rootfs`
   * a path inside of that. Either this or `image`.
   */
  readonly module?: string | URL | Uint8Array<ArrayBuffer>;
  /**
   * An image whose entrypoint is a module, and whose files the container sees: the path of an OCI
   * image layout or of an archive of one, or the name of an image in containerd, also as
   * `containerd://NAME`. What it says of arguments, environment, working directory and user holds
   * unless said otherwise here.
   */
  readonly image?: string;
  /** With `image`: what stands before the arguments, in the place of what the image has there. */
  readonly entrypoint?: readonly string[];
  /**
   * A host directory as the container's `/`. Default: a private, empty one that holds only the
   * module and is removed with the container.
   */
  readonly rootfs?: string;
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /** Arguments after the program's name; with `image`, in the place of its own. */
  readonly args?: readonly string[];
  /** The environment; nothing is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory inside. Default `/`. */
  readonly workdir?: string;
  /** Host directories to show to the container. */
  readonly mounts?: readonly DirectoryMount[];
  /** Memory limit in bytes. Default: none but the module's own. */
  readonly memoryBytes?: number;
  /** CPUs that it may use, also a part of one; takes a cgroup. Default: all. */
  readonly cpus?: number;
  /** Who it runs as: by number, or, with `image`, `USER[:GROUP]`. Default: the image's, else 0. */
  readonly user?: UserChoice;
  /** Whether its `/` cannot be written to. Default `false`. */
  readonly readonlyRootfs?: boolean;
  /** Default `null`: the container reads nothing. */
  readonly stdin?: StdioMode;
  /** Default `piped`. */
  readonly stdout?: StdioMode;
  /** Default `piped`. */
  readonly stderr?: StdioMode;
  /** Aborting it gives the start up, or kills the container once it runs. */
  readonly signal?: AbortSignal;
}

/**
 * A container that was started. Disposing of it kills what still runs and releases everything,
 * whether its streams were read or not.
 *
 * A pipe holds a bounded number of bytes: a container that writes to a `piped` stream which nobody
 * reads waits in the end. Read it, cancel it, or run with `inherit` or `null`.
 */
export interface Container extends AsyncDisposable {
  /** Its id. */
  readonly id: string;
  /** The id of its process, or of its thread where it runs inside of this process. */
  readonly pid: number;
  /**
   * Its standard input. Closing it is the end of input; a write fails once nobody reads any more.
   *
   * @throws {SandboxError} `FailedPrecondition` unless stdin is `piped`.
   */
  readonly stdin: WritableStream<Uint8Array>;
  /**
   * Its standard output, complete up to its end. Cancelling makes further writes fail inside.
   *
   * @throws {SandboxError} `FailedPrecondition` unless stdout is `piped`.
   */
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>>;
  /**
   * Its standard error, like {@link Container.stdout}.
   *
   * @throws {SandboxError} `FailedPrecondition` unless stderr is `piped`.
   */
  readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** How it ended. Never rejects. */
  readonly exit: Promise<Exit>;
  /**
   * Sends a signal; does nothing once it has ended.
   *
   * @param signal A name, or a number as in signal(7). Default `SIGKILL`.
   */
  kill(signal?: Deno.Signal | number): Promise<void>;
  /** What it uses now; what it used, once it has ended. */
  stats(): Promise<Stats>;
  /**
   * Waits for the end and collects what it wrote to its piped streams.
   *
   * @throws {SandboxError} `ResourceExhausted` when a stream has more than `options.bytesMax`
   *   bytes; the container is killed then.
   */
  output(options?: OutputOptions): Promise<Output>;
}

/** Options of {@link Container.output}. */
export interface OutputOptions {
  /** Most bytes to collect of each stream. Default 64 MiB. */
  readonly bytesMax?: number;
}

/** All that a container wrote, and how it ended. */
export interface Output {
  /** How it ended. */
  readonly exit: Exit;
  /** Its standard output; empty unless `piped`. */
  readonly stdout: Uint8Array<ArrayBuffer>;
  /** Its standard error; empty unless `piped`. */
  readonly stderr: Uint8Array<ArrayBuffer>;
}
