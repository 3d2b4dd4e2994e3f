/**
 * What the black-box suite needs to know of a kind of sandbox: how to run it, and what it can do.
 *
 * @module
 */

import type { Bed, BedOptions } from "../support/bed.ts";
import type { TarEntry } from "../support/tar.ts";

/**
 * The programs that a target's image has. Each kind has its own, and all do the same:
 *
 * - `hello` prints one line and ends
 * - `args` prints `arg A` for each argument after the program and `env K=V` for each variable, and
 *   exits with EXIT_CODE (0 without it)
 * - `lines N` prints `$ID out I ...` N times, and `$ID err I` to standard error at every tenth
 * - `sleep` prints `sleeping` and sleeps for an hour
 * - `spin` prints `spinning` and computes for ever
 * - `cat` copies standard input to standard output
 * - `memory N S` takes N MiB, prints `took N MiB` and sleeps S seconds
 * - `server PORT` prints `listening on PORT` and answers HTTP with `hello from $ID`
 * - `fs` works on files: `r:PATH` prints `read PATH: <content or error>`, `w:PATH` writes `written`
 *   and prints `write PATH: <ok or error>`
 * - `cwd PATH...` prints `PATH: <content or error>` for each path
 */
export const PROGRAMS = [
  "args",
  "cat",
  "cwd",
  "fs",
  "hello",
  "lines",
  "memory",
  "server",
  "sleep",
  "spin",
] as const;

/** The name of a program. */
export type Program = typeof PROGRAMS[number];

/** Files that the image has beside the programs. */
export const NOTES: readonly TarEntry[] = [
  { kind: "file", path: "note", data: new TextEncoder().encode("at the top") },
  { kind: "file", path: "some/where/note", data: new TextEncoder().encode("further down") },
];

/** A case that a kind of sandbox cannot pass, for a reason that lies outside of this project. */
export interface KnownFailure {
  /** The reason, which ends up in the name of the test. */
  readonly because: string;
  /** What the failure says; another one is a failure of the test. */
  readonly says: RegExp;
}

/** A kind of sandbox under test. */
export interface Target {
  /** What it is called in the names of tests. */
  readonly name: string;
  /** The runtime handler. */
  readonly handler: string;
  /** What runs in the bed. */
  readonly bed: BedOptions;
  /** The image that has all programs and {@link NOTES}; its entrypoint is `args`, its environment `FROM_IMAGE=yes`. */
  readonly image: string;
  /** Makes the image and brings it in. */
  importImages(bed: Bed): Promise<void>;
  /** The path of a program in the image. */
  path(program: Program): string;
  /** The one line that `hello` prints. */
  readonly greeting: string;
  /** How many pods run at once in the test of many. */
  readonly podsAtOnce: number;
  /** What it can do beyond what every kind can. */
  readonly abilities: {
    /** Pods on the host's network. */
    readonly hostNetwork: boolean;
    /** Whether its programs are those of an ordinary Linux image, with a shell. */
    readonly shell: boolean;
    /** Relative paths that start at the container's working directory. */
    readonly workingDirectory: boolean;
    /** More processes in a running container. */
    readonly exec: boolean;
    /** A terminal. */
    readonly terminal: boolean;
    /** New limits for a running container. */
    readonly update: boolean;
    /** Containers that stand still. */
    readonly pause: boolean;
    /** What becomes of a container that wants more memory than its limit. */
    readonly memoryLimit: "kills" | "refuses";
  };
  /** By name: the cases that must fail, and how. One that passes is a failure of the test. */
  readonly knownFailures?: Readonly<Record<string, KnownFailure>>;
}
