/**
 * `quasaur cp`: copies files and directories between this host and a container that runs.
 *
 * @module
 */

import { basename, posix, resolve } from "node:path";
import { Command } from "commander";
import type { Fleet, FleetContainer } from "../sandboxers/client/fleet.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
One of SOURCE and DESTINATION is TARGET:PATH, the other a path of this host, or - for a tar archive on
standard input or output. A path of this host with a colon in it begins with ./ or /. Where
DESTINATION is a directory, the copy is put into it; else it gets that name. tar(1) in the container
does the work there, as root; wasm sandboxes have none: share a directory with them when they are run.
From a container come files, directories and hard links; they belong to you, and nothing is written
but what DESTINATION names. Ends with 1 where it cannot be copied.

Examples:
  quasaur cp web:/etc/nginx ./nginx
  quasaur cp index.html web:/srv/www/
  quasaur cp pod-1/db:/var/lib/data - | gzip > data.tar.gz
  tar -c site | quasaur cp - web:/srv`;

/** The options as commander gathers them. */
interface CpOptions {
  readonly links?: boolean;
  readonly quiet?: boolean;
}

/** One end of a copy. */
type Place = { readonly kind: "host"; readonly path: string } | {
  readonly kind: "container";
  readonly target: string;
  readonly path: string;
} | { readonly kind: "stream" };

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function cpCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("cp")
    .description("Copy files between this host and a container.")
    .argument("<SOURCE>", "TARGET:PATH, a path of this host, or -")
    .argument("<DESTINATION>", "the same; one of both is TARGET:PATH")
    .option("-l, --links", "make symbolic links of the container here too; else they are left out")
    .option("-q, --quiet", "do not tell what was left out");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (from: string, to: string, options: CpOptions) => {
      const [source, destination] = [placeOf(from), placeOf(to)];
      if (source.kind === "container" && destination.kind !== "container") {
        const { target, path } = source;
        end(
          await withTarget(
            command,
            ports,
            target,
            (found) => copyOut(found, path, destination, options, ports),
          ),
        );
      } else if (destination.kind === "container" && source.kind !== "container") {
        const { target, path } = destination;
        end(
          await withTarget(
            command,
            ports,
            target,
            (found) => copyIn(found, source, path, options, ports),
          ),
        );
      } else {
        throw new UsageError(
          source.kind === "container"
            ? "Cannot copy between containers: expected one path of this host, or -: copy twice"
            : "Expected TARGET:PATH as SOURCE or DESTINATION, such as web:/etc/hosts",
        );
      }
    });
}

function placeOf(text: string): Place {
  if (text === "-") return { kind: "stream" };
  const colon = text.indexOf(":");
  // As scp has it: what has a slash before the colon begins like a path.
  if (colon < 1 || /^\.{0,2}\//.test(text)) return { kind: "host", path: text };
  const path = text.slice(colon + 1);
  if (!path.startsWith("/")) {
    throw new UsageError(
      `Invalid path ${JSON.stringify(text)}: expected an absolute path after the colon, or ./ ` +
        "before a path of this host",
    );
  }
  return { kind: "container", target: text.slice(0, colon), path };
}

/** Finds the container, refuses kinds without tar, and copies. */
async function withTarget(
  command: Command,
  ports: ClientPorts,
  target: string,
  copy: (found: FleetContainer) => Promise<void>,
): Promise<number> {
  return await withFleet(command, ports, async (fleet: Fleet) => {
    const found = await fleet.resolveContainer(target, "cannot copy with");
    if (found.sandbox.kind === "wasm") {
      throw new SandboxError(
        "Unimplemented",
        `cannot copy with "${target}": it is a wasm sandbox, in which no tar runs: share a ` +
          "directory with it, such as with `quasaur run wasm --dir HOST:GUEST`",
      );
    }
    try {
      await copy(found);
      return 0;
    } catch (error) {
      // Whoever reads the archive has seen enough.
      if (error instanceof Deno.errors.BrokenPipe) return SOME_FAILED;
      throw error;
    }
  });
}

/** From a container to this host, or to standard output. */
async function copyOut(
  found: FleetContainer,
  path: string,
  destination: Place,
  options: CpOptions,
  ports: ClientPorts,
): Promise<void> {
  const { noTar, runRemote, tarError } = await import("./copy/remote_tar.ts");
  const action = `cannot copy "${path}" from the container`;
  const whole = posix.normalize(path).replace(/(?<=.)\/$/, "");
  const name = whole === "/" ? "." : posix.basename(whole);
  const args = ["tar", "-c", "-f", "-", "-C", posix.dirname(whole), "--", name];
  if (destination.kind !== "host") {
    if (ports.terminal() !== undefined) {
      throw new UsageError("Cannot write an archive to a terminal: redirect standard output");
    }
    const output = (bytes: Uint8Array) => ports.streams.output(bytes);
    const end = await runRemote({ found, args, output }).catch((error) => {
      throw error instanceof Deno.errors.BrokenPipe ? error : noTar(action, found, error);
    });
    if (end.status !== 0) throw tarError(action, end);
    return;
  }
  if (name === ".") {
    throw new UsageError("Cannot copy / to a path of this host: name what is in it");
  }
  const { unpack } = await import("./copy/unpack.ts");
  const { StreamSource } = await import("../sandboxers/images/bytes.ts");
  const target = await hostTarget(destination.path, name);
  const { readable, writable } = new TransformStream<
    Uint8Array<ArrayBuffer>,
    Uint8Array<ArrayBuffer>
  >();
  const writer = writable.getWriter();
  const remote = runRemote({ found, args, output: (bytes) => writer.write(bytes.slice()) })
    .finally(() => writer.close().catch(() => undefined));
  // Looked at below, once what came before it is on disk.
  remote.catch(() => undefined);
  await using source = new StreamSource(readable);
  let failure: unknown;
  const count = await unpack(source, {
    name,
    target,
    links: options.links ?? false,
    onLeftOut: (left, why) => {
      if (!options.quiet) ports.complain(`left out ${JSON.stringify(left)}: ${why}`);
    },
  }).catch((error: unknown) => {
    failure = SandboxError.from(error, `cannot write to "${target}"`);
    return 0;
  });
  if (failure !== undefined) {
    await source[Symbol.asyncDispose]();
    throw failure;
  }
  await source.drain();
  const end = await remote.catch((error) => {
    throw noTar(action, found, error);
  });
  if (end.status !== 0) throw tarError(action, end);
  if (count === 0) throw new SandboxError("Internal", `${action}: tar sent nothing`);
}

/** Where a copy goes: into a directory that is there, or to the path itself. */
async function hostTarget(path: string, name: string): Promise<string> {
  const whole = resolve(path);
  const info = await Deno.stat(whole).catch(() => undefined);
  if (info?.isDirectory) return `${whole === "/" ? "" : whole}/${name}`;
  if (path.endsWith("/")) {
    throw new SandboxError("NotFound", `cannot write to "${path}": there is no such directory`);
  }
  return whole;
}

/** From this host, or from standard input, to a container. */
async function copyIn(
  found: FleetContainer,
  source: Place,
  path: string,
  options: CpOptions,
  ports: ClientPorts,
): Promise<void> {
  const { noTar, runRemote, tarError } = await import("./copy/remote_tar.ts");
  const action = `cannot copy to "${path}" in the container`;
  const whole = posix.normalize(path).replace(/(?<=.)\/$/, "");
  const nothing = () => Promise.resolve();
  const run = async (args: readonly string[], input?: AsyncIterable<Uint8Array>) =>
    await runRemote({ found, args, output: nothing, ...(input === undefined ? {} : { input }) })
      .catch((error) => {
        throw noTar(action, found, error);
      });
  const untar = ["tar", "-x", "-f", "-", "-C"];
  if (source.kind !== "host") {
    const end = await run([...untar, whole], streamed(ports.streams.input()));
    if (end.status !== 0) throw tarError(action, end);
    return;
  }
  const { pack } = await import("./copy/pack.ts");
  const file = resolve(source.path);
  await Deno.lstat(file).catch((error: unknown) => {
    throw SandboxError.from(error, `cannot read "${source.path}"`);
  });
  const isDirectory = whole === "/" || (await run(["test", "-d", whole])).status === 0;
  if (!isDirectory && path.endsWith("/")) {
    throw new SandboxError("NotFound", `${action}: there is no such directory`);
  }
  const name = isDirectory ? basename(file) : posix.basename(whole);
  const packed = pack(file, name, (left) => {
    if (!options.quiet) ports.complain(`left out ${JSON.stringify(left)}: no file or directory`);
  });
  const end = await run([...untar, isDirectory ? whole : posix.dirname(whole)], packed);
  if (end.status !== 0) throw tarError(action, end);
}

/** A stream piece by piece. */
async function* streamed(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of stream) yield piece;
}
