/**
 * What of an image runs, and how: its configuration, as far as whoever runs it says nothing else.
 * Source: OCI image specification, config.md, and what container tools agree on.
 *
 * @module
 */

import { posix } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ImageConfig } from "./manifest.ts";
import { findUser } from "./users.ts";

/** A user by number, or `USER[:GROUP]` as the image knows them. */
export type UserChoice = string | {
  /** User id. */
  readonly uid?: number;
  /** Group id. */
  readonly gid?: number;
  /** Further groups. */
  readonly additionalGids?: readonly number[];
};

/** What is asked for; what is missing is the image's to say. */
export interface ProcessChoice {
  /** What stands before the command; an empty one takes that of the image away. */
  readonly entrypoint?: readonly string[];
  /** What stands behind the entrypoint, in the place of the image's own. */
  readonly command?: readonly string[];
  /** Environment, beside that of the image and before it. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory. */
  readonly workdir?: string;
  /** Who it runs as. */
  readonly user?: UserChoice;
  /** Whether it is told its user's home directory, where the image does not. Default `true`. */
  readonly home?: boolean;
}

/** A process of an image. */
export interface ImageProcess {
  /** What it runs, at least one word. */
  readonly args: readonly string[];
  /** Its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Its working directory, absolute. */
  readonly workdir: string;
  /** Who it runs as. */
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly additionalGids: readonly number[];
  };
}

/** An image whose files are there. */
export interface UnpackedImage {
  /** What messages call it. */
  readonly name: string;
  /** Its files. */
  readonly rootfs: string;
  /** What it says of itself. */
  readonly config: ImageConfig;
}

/**
 * Puts together what runs.
 *
 * @throws {SandboxError} `InvalidArgument` where nothing is to be run, or the user is unknown.
 */
export async function imageProcess(
  { name, rootfs, config }: UnpackedImage,
  choice: ProcessChoice,
): Promise<ImageProcess> {
  const args = argsOf(config, choice);
  if (args.length === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot run image "${name}": it starts nothing by itself: say what to run in it`,
    );
  }
  const { user, home } = await userOf(rootfs, choice.user ?? config.user);
  const given: Record<string, string> = home === "" || choice.home === false ? {} : { HOME: home };
  for (const entry of config.env) {
    const at = entry.indexOf("=");
    if (at > 0) given[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return {
    args,
    env: { ...given, ...choice.env },
    workdir: choice.workdir ?? posix.normalize(`/${config.workingDirectory}`),
    user,
  };
}

/** Whoever changes the entrypoint has no use for the arguments that were meant for the image's. */
function argsOf(
  config: ImageConfig,
  { entrypoint, command }: ProcessChoice,
): readonly string[] {
  const own = config.args.slice(config.entrypoint.length);
  if (entrypoint !== undefined) return [...entrypoint, ...command ?? []];
  return [...config.entrypoint, ...command ?? own];
}

async function userOf(rootfs: string, choice: UserChoice) {
  if (typeof choice === "string") {
    const { home, ...user } = await findUser(rootfs, choice);
    return { user, home };
  }
  const { uid = 0, gid = uid, additionalGids = [] } = choice;
  return { user: { uid, gid, additionalGids }, home: "" };
}
