/**
 * What programs see of Linux commands in sandboxes of their own process, whatever the kind of the
 * sandbox: containers, the processes in these, and how to run them.
 *
 * @module
 */

import type { Container, DirectoryMount, StdioMode } from "./api.ts";

/** The size of a terminal, in characters. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** Who a process runs as, by number. */
export interface LinuxUser {
  /** User id. Default 0. */
  readonly uid?: number;
  /** Group id. Default: that of the user's number. */
  readonly gid?: number;
  /** Further groups. */
  readonly additionalGids?: readonly number[];
}

/** A process to run, and how. */
export interface LinuxProcessOptions {
  /** The command and its arguments, at least one. */
  readonly command: readonly string[];
  /** The environment beside `PATH` and, with a terminal, `TERM`; nothing is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory inside. Default `/`. */
  readonly workdir?: string;
  /** Who it runs as. Default: root, as far as containers have one. */
  readonly user?: LinuxUser;
  /** Whether it has a terminal, and of what size; then `stdout` carries both outputs. */
  readonly terminal?: boolean | TerminalSize;
  /** Default `null`: it reads nothing. */
  readonly stdin?: StdioMode;
  /** Default `piped`. */
  readonly stdout?: StdioMode;
  /** Default `piped`; with a terminal there is none. */
  readonly stderr?: StdioMode;
  /** Aborting it gives the start up, or kills the process once it runs. */
  readonly signal?: AbortSignal;
}

/** A container to run, and how. */
export interface LinuxRunOptions extends Omit<LinuxProcessOptions, "command" | "user"> {
  /**
   * An image, whose files the container sees and does not change: the path of an OCI image layout or
   * of an archive of one, or the name of an image in containerd, also as `containerd://NAME`. What
   * it says of environment, working directory and user holds unless said otherwise here.
   */
  readonly image?: string;
  /** What stands before the command, in the place of what the image has there. */
  readonly entrypoint?: readonly string[];
  /** The command and its arguments, at least one; with an image, in the place of its own. */
  readonly command?: readonly string[];
  /**
   * Who it runs as, by number or as `USER[:GROUP]`, names that its root file system knows. Default:
   * what the image says, else root.
   */
  readonly user?: LinuxUser | string;
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /** Whether its `/` cannot be written to. Default `false`. */
  readonly readonlyRootfs?: boolean;
  /** Host files and directories to show to the container. */
  readonly mounts?: readonly DirectoryMount[];
  /** Memory limit of this container in bytes. Default: none but the sandbox's. */
  readonly memoryBytes?: number;
}

/** A container that was started, with the streams of its first process. */
export interface LinuxContainer extends Container {
  /** Starts another process in it. */
  exec(options: LinuxProcessOptions): Promise<LinuxProcess>;
  /** Sets the size of its terminal. */
  resize(size: TerminalSize): Promise<void>;
  /** Freezes it. */
  pause(): Promise<void>;
  /** Thaws it. */
  resume(): Promise<void>;
}

/**
 * A process that was started beside a container's first. Disposing of it kills it where it still
 * runs.
 */
export interface LinuxProcess extends Omit<Container, "id" | "stats"> {
  /** Sets the size of its terminal. */
  resize(size: TerminalSize): Promise<void>;
}
