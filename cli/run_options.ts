/**
 * The options that `quasaur run` has for every kind of sandbox, written and read in the same way.
 *
 * @module
 */

import { type Command, Option } from "commander";
import type { DirectoryMount, PublishedPort } from "../mod.ts";
import { addAddress, append } from "./client/command.ts";
import { DEFAULT_DETACH_KEYS } from "./client/detach_keys.ts";
import { readEnvFile } from "./run_env_file.ts";
import { parsePublish } from "./run_publish.ts";
import {
  parseCpus,
  parseDuration,
  parseEnvironment,
  parseHostname,
  parseLabel,
  parseMemory,
  parseName,
  parseUserName,
  parseVolume,
  parseWorkdir,
} from "./run_values.ts";

/** Variables by name. */
type Variables = Readonly<Record<string, string>>;

/** The options as commander gathers them. */
export interface RunCommandOptions {
  /** Whether it goes on in a sandboxer when this command is done. */
  readonly detach?: boolean;
  /** Keys that leave it running. */
  readonly detachKeys: string;
  /** Whether it runs in this process, whoever else is there. */
  readonly embedded?: boolean;
  /** What stands before the command. */
  readonly entrypoint?: string;
  /** The environment. */
  readonly env?: Variables;
  /** Files of environment, in their order. */
  readonly envFile?: Variables;
  /** The hostname inside. */
  readonly hostname?: string;
  /** An image. */
  readonly image?: string;
  /** Whether standard input is passed on. */
  readonly interactive?: boolean;
  /** Labels. */
  readonly label?: Variables;
  /** Memory in bytes. */
  readonly memory?: number;
  /** CPUs. */
  readonly cpus?: number;
  /** Its name. */
  readonly name?: string;
  /** The namespace of images in containerd. */
  readonly namespace?: string;
  /** Ports of the host that lead to it. */
  readonly publish?: readonly PublishedPort[];
  /** The socket of the containerd that has images. */
  readonly pullFrom?: string;
  /** Whether its root file system cannot be written to. */
  readonly readOnly?: boolean;
  /** Whether it is removed at its end. */
  readonly rm?: boolean;
  /** A directory as its root file system. */
  readonly rootfs?: string;
  /** When it is killed, in milliseconds. */
  readonly timeout?: number;
  /** Whether it has a terminal. */
  readonly tty?: boolean;
  /** Who it runs as. */
  readonly user?: { readonly uid: number; readonly gid: number } | string;
  /** What it sees of the host. */
  readonly volume?: readonly DirectoryMount[];
  /** Working directory inside. */
  readonly workdir?: string;
}

const variables = (parse: (text: string) => readonly [string, string]) =>
(
  text: string,
  before: Variables = {},
): Variables => {
  const [name, value] = parse(text);
  return { ...before, [name]: value };
};

/**
 * Adds the options to a command.
 *
 * @param command The command; those of its own come first in its help.
 */
export function addRunOptions(command: Command): Command {
  const files = (text: string, before: Variables = {}) => ({ ...before, ...readEnvFile(text) });
  const volumes = (text: string, before: readonly DirectoryMount[] = []) => [
    ...before,
    parseVolume(text),
  ];
  const ports = (text: string, before: readonly PublishedPort[] = []) => [
    ...before,
    parsePublish(text),
  ];
  command
    .option("--image <IMAGE>", "what to run, where WHAT could be taken for something else")
    .option("--rootfs <DIR>", "a directory as its root file system, in the place of WHAT")
    .option(
      "--entrypoint <PROGRAM>",
      'what to run in the place of the image\'s entrypoint; "" for none',
    )
    .option("--name <NAME>", "its name, default made up", parseName)
    .option("-l, --label <NAME=VALUE>", "a label; may be repeated", variables(parseLabel))
    .option("--rm", "remove it once it has ended; without a sandboxer always done")
    .option("-d, --detach", "leave it running in a sandboxer, and print its id")
    .option("-i, --interactive", "pass standard input on; not detached, that is always done")
    .option("-t, --tty", "give it a terminal: that of this command")
    .option("--detach-keys <KEYS>", 'keys that leave it running; "" for none', DEFAULT_DETACH_KEYS)
    .option(
      "-e, --env <NAME=VALUE>",
      "set an environment variable; may be repeated",
      variables(parseEnvironment),
    )
    .option("--env-file <FILE>", "set those of a file, one in each line; may be repeated", files)
    .option(
      "-v, --volume <SOURCE:DESTINATION[:ro]>",
      "show a file or directory to it; may be repeated",
      volumes,
    )
    .option(
      "-p, --publish <[IP:]HOST:CONTAINER[/PROTO]>",
      "let a port of the host lead to it; may be repeated",
      ports,
    )
    .option(
      "-w, --workdir <PATH>",
      "working directory inside, default the image's or /",
      parseWorkdir,
    )
    .option(
      "-u, --user <USER[:GROUP]>",
      "who it runs as, names or numbers, default the image's or 0:0",
      parseUserName,
    )
    .option("--cpus <N>", "CPUs, default all, or the configuration's", parseCpus)
    .option("-m, --memory <SIZE>", "most memory it uses, such as 256Mi", parseMemory)
    .option("--hostname <NAME>", "hostname inside, default quasaur", parseHostname)
    .option("--read-only", "its root file system cannot be written to")
    .option(
      "--timeout <DURATION>",
      "kill it after so long, such as 30s",
      (text: string) => parseDuration(text),
    )
    .option(
      "--pull-from <SOCKET>",
      "the containerd that has images, default /run/containerd/containerd.sock",
    )
    .option(
      "--namespace <NAME>",
      "containerd's namespace of the image, default k8s.io, then default",
    )
    .option("--embedded", "run it in this process, also where a sandboxer is there");
  return addAddress(command);
}

/**
 * Adds the option that says what a sandbox reaches; it is taken by the name that docker has for it, too.
 *
 * @param command The command.
 * @param about Its help.
 * @param parse Reads its value.
 */
export function addNetOption(
  command: Command,
  about: string,
  parse: (text: string) => unknown,
): Command {
  const other = new Option("--network <WHAT>", about).hideHelp().argParser((text: string) => {
    command.setOptionValue("net", parse(text));
  });
  return command.option("--net <WHAT>", about, parse).addOption(other);
}

/**
 * Adds options of which only a sandbox in this process knows.
 *
 * @param command The command.
 * @param kind Whose configuration it is, for `quasaur config KIND`.
 */
export function addConfigOptions(command: Command, kind: string): Command {
  return command
    .option("--config <FILE>", `configuration, see: quasaur config ${kind} --help; embedded only`)
    .option(
      "--set <KEY=VALUE>",
      "a setting that goes before the file's; may be repeated; embedded only",
      append,
    );
}

/** The environment that was asked for: single variables go before those of files. */
export function environmentOf({ env = {}, envFile = {} }: RunCommandOptions): Variables {
  return { ...envFile, ...env };
}

/** What stands before the command in the place of the image's own; an empty one takes that away. */
export function entrypointOf(
  { entrypoint }: RunCommandOptions,
): { readonly entrypoint?: readonly string[] } {
  if (entrypoint === undefined) return {};
  return { entrypoint: entrypoint === "" ? [] : [entrypoint] };
}
