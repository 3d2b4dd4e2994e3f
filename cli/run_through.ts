/**
 * Runs something through a sandboxer that runs: which one, what it is asked for, and its streams on
 * this command's own.
 *
 * @module
 */

import { resolve } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type ImageOptions, SandboxError } from "../mod.ts";
import type { RunRequestSchema } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { DEFAULT_ADDRESSES } from "../sandboxers/client/find.ts";
import type { Fleet } from "../sandboxers/client/fleet.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { EmbeddedImages } from "../sandboxers/embedded/images.ts";
import { linuxImageRun, linuxRootfsRun } from "../sandboxers/embedded/linux_files.ts";
import { makePrivateRootfs } from "../sandboxers/embedded/private_rootfs.ts";
import { imageProcess } from "../sandboxers/images/process.ts";
import { assertModuleHeader } from "../sandboxers/wasm/module_bytes.ts";
import { type AttachedEnd, runAttached } from "./client/attached.ts";
import { addressesOf } from "./client/command.ts";
import { parseDetachKeys } from "./client/detach_keys.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import type { OwnTerminal } from "./raw_terminal.ts";
import { entrypointOf, environmentOf, type RunCommandOptions } from "./run_options.ts";
import { imageOptions, type Subject } from "./run_subject.ts";
import type { RunContext, RunEnd } from "./run_within.ts";
import { complain } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

/** The sandboxers, by the kind that is asked for. */
const SANDBOXERS = { wasm: "wasm", vmm: "vmm", gvisor: "quark", quark: "quark" } as const;

/** Kinds of `quasaur run`. */
export type RunKind = keyof typeof SANDBOXERS;

/** What to run, and how, beyond what all kinds have. */
export interface ThroughRequest {
  /** The kind. */
  readonly kind: RunKind;
  /** What is run. */
  readonly subject: Subject;
  /** How. */
  readonly options: RunCommandOptions;
  /** Its network as the protocol has it; empty for the kind's own choice. */
  readonly network: string;
  /** Further annotations. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** The runtime handler; empty for the sandboxer's own choice. */
  readonly runtime?: string;
}

/** What it works with; tests have their own. */
export interface ThroughPorts extends Pick<ClientPorts, "streams"> {
  /** Finds sandboxers. */
  readonly open: ClientPorts["open"];
  /** Writes to standard output. */
  print(text: string): void;
  /** Whether there may be one at an address. */
  isThere(address: string): Promise<boolean>;
  /** Where images come from and are kept, beside what the command line says. */
  readonly images: ImageOptions;
}

/** The real ones. */
export const THROUGH_PORTS: ThroughPorts = {
  open: CLIENT_PORTS.open,
  streams: CLIENT_PORTS.streams,
  print: CLIENT_PORTS.print,
  isThere: async (address) => {
    try {
      return (await Deno.stat(address)).isSocket ?? false;
    } catch {
      return false;
    }
  },
  images: {},
};

/** Where something is to run. */
export interface RunChoice {
  /** The kind. */
  readonly kind: RunKind;
  /** The command: says where sandboxers are. */
  readonly command: Command;
  /** How it is to run. */
  readonly options: RunCommandOptions;
  /** An option that was given and that only a sandbox in this process knows of. */
  readonly embeddedOnly: string | undefined;
}

/**
 * Chooses where something runs: in a sandboxer where one was named, or it is to go on by itself, or
 * one of the kind runs; else in this process.
 *
 * @returns The sandboxer, to be disposed of; undefined for this process.
 * @throws {UsageError} For options that exclude each other.
 * @throws {SandboxError} `Unavailable` where one is needed and there is none.
 */
export async function chooseSandboxer(
  { kind, command, options, embeddedOnly }: RunChoice,
  ports: ThroughPorts,
): Promise<ManagementClient | undefined> {
  const addresses = addressesOf(command);
  const isAsked = addresses.length > 0 || options.detach === true;
  const local = embeddedOnly ?? (options.embedded === true ? "--embedded" : undefined);
  if (isAsked && local !== undefined) {
    const other = options.detach === true ? "--detach" : "--address";
    throw new UsageError(`Cannot use ${other} with ${local}, which is for this process alone`);
  }
  if (options.detach === true && options.timeout !== undefined) {
    throw new UsageError("Cannot use --timeout with --detach: nobody is there to count");
  }
  if (local !== undefined) return undefined;
  const name = SANDBOXERS[kind];
  const usual = DEFAULT_ADDRESSES[name];
  const isNamed = addresses.length > 0 || hasAddressVariable();
  if (isNamed || await ports.isThere(usual)) {
    // What listens for other kinds is nobody's business.
    const fleet = await ports.open(isNamed ? addresses : [usual]).catch((error: unknown) => {
      if (isAsked || isNamed) throw error;
      return undefined;
    });
    const client = fleet === undefined ? undefined : await ofKind(name, fleet);
    if (client !== undefined) return client;
  }
  if (isAsked) throw noneOf(name, addresses);
  return undefined;
}

function hasAddressVariable(): boolean {
  try {
    return (Deno.env.get("QUASAUR_ADDRESS") ?? "") !== "";
  } catch {
    return false;
  }
}

/** The sandboxer of a kind; the others are closed. */
async function ofKind(
  name: "wasm" | "vmm" | "quark",
  fleet: Fleet,
): Promise<ManagementClient | undefined> {
  const client = await fleet.ofKind(name).catch((error: unknown) => {
    fleet[Symbol.dispose]();
    throw error;
  });
  for (const other of fleet.clients) {
    if (other !== client) other.close();
  }
  return client;
}

function noneOf(name: "wasm" | "vmm" | "quark", addresses: readonly string[]): SandboxError {
  return new SandboxError(
    "Unavailable",
    addresses.length > 0
      ? `no sandboxer of the kind ${name} is at ${addresses.map((at) => `"${at}"`).join(" or ")}`
      : `no sandboxer of the kind ${name} is running: nobody listens at ` +
        `"${
          DEFAULT_ADDRESSES[name]
        }": start it, such as with \`systemctl start quasaur-${name}\`, ` +
        "or name its socket with --address",
  );
}

/**
 * Runs something through a sandboxer.
 *
 * @param client The sandboxer.
 * @param request See {@link ThroughRequest}.
 * @param terminal The terminal of this command, where it is lent.
 * @param context What a run works with.
 * @param ports What it works with.
 * @returns How it ended; undefined where it goes on without this command.
 * @throws {UsageError} For what the command line makes impossible.
 * @throws {SandboxError} What the sandboxer says.
 */
export async function runThrough(
  client: ManagementClient,
  request: ThroughRequest,
  terminal: OwnTerminal | undefined,
  context: RunContext,
  ports: ThroughPorts = THROUGH_PORTS,
): Promise<RunEnd | undefined> {
  const { options } = request;
  const keys = parseDetachKeys(options.detachKeys);
  await using files = new AsyncDisposableStack();
  const message = await runMessage(client, request, { terminal, context, ports, files });
  const { sandboxId, containerId } = await client.run(message, { signal: context.signal });
  context.progress.over();
  if (options.detach === true) {
    ports.print(`${sandboxId}\n`);
    return undefined;
  }
  // A limit that comes before the process is there gives the start up.
  const kill = () =>
    void client.kill({ target: sandboxId, signal: 9, all: true }).catch(() => undefined);
  context.limit.signal.addEventListener("abort", kill);
  try {
    const end = await runAttached(client.attach({ signal: context.signals.startSignal }), {
      first: {
        message: {
          case: "attach",
          value: {
            target: containerId,
            ...(terminal === undefined ? {} : { terminalSize: terminal.size() }),
          },
        },
      },
      stdin: true,
      terminal,
      streams: ports.streams,
      signals: context.signals,
      // Without a terminal every byte is the process's.
      detachKeys: terminal === undefined ? undefined : keys,
      unread: "end",
    });
    return endOf(end);
  } catch (error) {
    // Where the connection broke, it may go on: who wants to can attach to it again.
    const { code } = SandboxError.from(error);
    if (code !== "Unavailable" || context.signal.aborted) {
      await client.remove({ target: sandboxId, force: true }).catch(() => undefined);
    }
    throw error;
  } finally {
    context.limit.signal.removeEventListener("abort", kill);
  }
}

function endOf(end: AttachedEnd): RunEnd | undefined {
  if (end.kind !== "exit") {
    complain("left it running");
    return undefined;
  }
  const { status, reason, message } = end.exit;
  const known = (["signaled", "trap", "oom", "lost"] as const).find((name) => name === reason);
  return { status, reason: known ?? "exited", ...(message === "" ? {} : { message }) };
}

/** What putting a request together works with. */
interface MessagePorts {
  readonly terminal: OwnTerminal | undefined;
  readonly context: RunContext;
  readonly ports: ThroughPorts;
  /** Takes what has to be there until the sandboxer has it. */
  readonly files: AsyncDisposableStack;
}

type RunMessage = MessageInitShape<typeof RunRequestSchema>;

async function runMessage(
  client: ManagementClient,
  request: ThroughRequest,
  work: MessagePorts,
): Promise<RunMessage> {
  const { options, kind, subject, network, annotations = {}, runtime = "" } = request;
  const { memory, cpus, publish = [], label = {}, volume = [], tty = false } = options;
  const { terminal } = work;
  const { rootfs, process } = kind === "wasm"
    ? await moduleParts(client, request, work)
    : await linuxParts(request, work);
  return {
    name: options.name ?? "",
    rootfs: { source: rootfs },
    process: {
      ...process,
      terminal: tty,
      ...(terminal === undefined ? {} : { terminalSize: terminal.size() }),
    },
    mounts: volume.map(({ source, destination, readonly = false }) => ({
      source: resolve(source),
      destination,
      readonly,
    })),
    resources: {
      memoryBytes: BigInt(memory ?? 0),
      cpuMillis: cpus === undefined ? 0n : BigInt(Math.max(10, Math.round(cpus * 1_000))),
    },
    network,
    ports: publish.map(({ address, hostPort, containerPort, protocol }) => ({
      address,
      hostPort,
      containerPort,
      protocol,
    })),
    hostname: options.hostname ?? (kind === "wasm" ? "" : "quasaur"),
    labels: { ...label },
    annotations: { ...annotations },
    readonlyRootfs: options.readOnly === true,
    stdin: options.detach !== true || options.interactive === true,
    remove: options.rm === true,
    startOnAttach: options.detach !== true,
    image: subject.source.kind === "rootfs" ? "" : subject.name,
    runtime,
  };
}

/** The parts of a request that depend on what is run. */
interface RunParts {
  readonly rootfs: NonNullable<NonNullable<RunMessage["rootfs"]>["source"]>;
  readonly process: {
    readonly args: string[];
    readonly env: string[];
    readonly cwd: string;
    readonly uid: number;
    readonly gid: number;
    readonly additionalGids: number[];
  };
}

async function linuxParts(
  { subject, options }: ThroughRequest,
  work: MessagePorts,
): Promise<RunParts> {
  const { name, source, words } = subject;
  const { user, workdir } = options;
  const wish = {
    ...(words.length === 0 ? {} : { command: words }),
    ...entrypointOf(options),
    env: environmentOf(options),
    ...(workdir === undefined ? {} : { workdir }),
    ...(user === undefined ? {} : { user }),
  };
  if (source.kind !== "rootfs" && source.kind !== "disk") {
    const images = imagesOf(options, work);
    const { options: run, template } = await linuxImageRun(
      { ...wish, image: name, signal: work.context.signal },
      await images.find(name),
      images,
      work.files,
    );
    return {
      rootfs: { case: "templateDirectory", value: template },
      process: processOf(run.command, run),
    };
  }
  const path = resolve(source.path);
  const run = await linuxRootfsRun(wish, source.kind === "disk" ? undefined : path);
  if (run.command.length === 0) throw new UsageError("missing required argument 'COMMAND'");
  return { rootfs: { case: "directory", value: path }, process: processOf(run.command, run) };
}

async function moduleParts(
  client: ManagementClient,
  { subject, options }: ThroughRequest,
  work: MessagePorts,
): Promise<RunParts> {
  const { source, words, name } = subject;
  const { workdir, user, rootfs } = options;
  const env = environmentOf(options);
  if (source.kind === "image") {
    const images = imagesOf(options, work);
    const found = await images.find(name);
    const image = work.files.use(await images.use(name, found, work.context.signal));
    const { args, ...run } = await imageProcess(image, {
      ...(words.length === 0 ? {} : { command: words }),
      ...entrypointOf(options),
      env,
      ...(workdir === undefined ? {} : { workdir }),
      ...(user === undefined ? {} : { user }),
      home: false,
    });
    return {
      rootfs: { case: "templateDirectory", value: image.rootfs },
      process: processOf(args, run),
    };
  }
  const who = numbersOf(user);
  if (rootfs !== undefined) {
    return {
      rootfs: { case: "directory", value: resolve(rootfs) },
      process: processOf(words, { env, workdir, user: who }),
    };
  }
  if (source.kind === "rootfs") throw new UsageError("Expected a module");
  const { stateDir } = await client.info({ signal: work.context.signal });
  const made = work.files.use(
    await makePrivateRootfs(source.path, {
      parent: `${stateDir}/staging`,
      checkModule: assertModuleHeader,
      // What the sandboxer has taken over is not there any more.
      onLeftover: () => undefined,
    }),
  );
  return {
    rootfs: { case: "stagedDirectory", value: made.path },
    process: processOf([made.program, ...words], { env, workdir, user: who }),
  };
}

function numbersOf(user: RunCommandOptions["user"]) {
  if (typeof user !== "string") return user ?? {};
  throw new UsageError(`Cannot look user "${user}" up without an image: expected numbers`);
}

function processOf(
  args: readonly string[],
  { env = {}, workdir = "/", user = {} }: {
    readonly env?: Readonly<Record<string, string>>;
    readonly workdir?: string | undefined;
    readonly user?: {
      readonly uid?: number;
      readonly gid?: number;
      readonly additionalGids?: readonly number[];
    };
  },
): RunParts["process"] {
  const { uid = 0, gid = uid, additionalGids = [] } = user;
  return {
    args: [...args],
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    cwd: workdir,
    uid,
    gid,
    additionalGids: [...additionalGids],
  };
}

function imagesOf(options: RunCommandOptions, { context, ports }: MessagePorts): EmbeddedImages {
  return new EmbeddedImages({
    images: {
      ...ports.images,
      ...imageOptions(options),
      onProgress: (progress) => context.progress.image(progress),
    },
    onWarning: (message) => complain(`warning: ${message}`),
  });
}
