/**
 * A double of Quark for tests: speaks Quark's side of the contract (its command line, its bundle, its
 * task service) and runs containers as plain processes of the host. It is strict where Quark would
 * panic or do something else than was meant, and it is no sandbox: never to be shipped.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/cmd/sandbox.rs and runc/runtime/sandbox_process.rs.
 *
 * @module
 */

import { boot } from "./boot.ts";
import { type DoubleConfig, readDoubleConfig } from "./double_config.ts";
import { mountPoints } from "./mounts.ts";
import { panic } from "./panic.ts";
import { parseQuarkSpec } from "./quark_spec.ts";

const ID_CHARS = 64;
const SOCKET_CHARS_MAX = 107;

interface SandboxArguments {
  readonly bundle: string;
  readonly socket: string;
  readonly id: string;
  readonly pidFile: string;
}

/** `-r BUNDLE sandbox --task-socket S --id ID --pid-file P`, and nothing else. */
function parseArguments(args: readonly string[]): SandboxArguments {
  const [root, bundle = "", command, ...rest] = args;
  if (root !== "-r" || command !== "sandbox" || rest.length !== 6) {
    throw new Error(`USAGE: quark -r BUNDLE sandbox --task-socket S --id ID --pid-file P: ${args}`);
  }
  const values = new Map<string, string>();
  for (let at = 0; at < rest.length; at += 2) values.set(rest[at] ?? "", rest[at + 1] ?? "");
  const value = (name: string) => {
    const found = values.get(name);
    if (found === undefined) throw new Error(`USAGE: missing ${name}`);
    return found;
  };
  return {
    bundle,
    socket: value("--task-socket"),
    id: value("--id"),
    pidFile: value("--pid-file"),
  };
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const { success } = await new Deno.Command(command, { args: [...args] }).output();
  if (!success) throw new Error(`${command} ${args.join(" ")} failed`);
}

/** What Quark does in the host's mount namespace, and leaves there. */
async function makeRootDirectory(bundle: string): Promise<void> {
  await run("mount", ["--rbind", bundle, bundle]);
  await Deno.mkdir(`${bundle}/dev/pts`, { recursive: true });
  await run("mount", ["-t", "devpts", "devpts", `${bundle}/dev/pts`]);
}

async function sandbox(args: SandboxArguments, config: DoubleConfig): Promise<void> {
  const { bundle, id, socket, pidFile } = args;
  if (!config.Sandboxed || config.ShimMode) throw new Error("it is not in sandbox mode");
  if (config.Double?.fault === "dies-at-start") throw new Error("configuration wrong format");
  if (id.length !== ID_CHARS) throw new Error(`copy_from_slice: the id has ${id.length} bytes`);
  if (socket.length > SOCKET_CHARS_MAX) throw new Error("the socket's path is too long");
  const spec = parseQuarkSpec(await Deno.readTextFile(`${bundle}/config.json`));
  if (spec.linux === undefined) throw new Error("called unwrap on a None value: spec.linux");
  if (!(await Deno.stat(`${bundle}/${spec.root.path}`)).isDirectory) throw new Error("chdir fail");
  if (!(await mountPoints()).has(bundle)) {
    throw new Error("contract: what is mounted in the bundle later would not be seen in here");
  }
  await makeRootDirectory(bundle);
  const network = spec.linux.namespaces.find(({ type }) => type === "network");
  const enter = network === undefined || network.path === ""
    ? []
    : ["nsenter", `--net=${network.path}`];
  const isNew = network !== undefined && network.path === "";
  const [command = "", ...words] = [
    ...enter,
    ...["unshare", "--mount", "--propagation", "slave", ...(isNew ? ["--net"] : [])],
    ...[Deno.execPath(), "run", "--quiet", "-A", import.meta.url, "boot"],
    ...[bundle, socket, id],
  ];
  const child = new Deno.Command(command, {
    args: words,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  child.unref();
  const { done } = await child.stdout.getReader().read();
  if (done === true) throw new Error("Boot command failed to start");
  if (config.Double?.fault !== "no-pid-file") await Deno.writeTextFile(pidFile, `${child.pid}`);
  Deno.exit(0);
}

if (import.meta.main) {
  try {
    const config = await readDoubleConfig();
    const [first, bundle = "", socket = "", id = ""] = Deno.args;
    if (first === "boot") await boot({ bundle, socket, id, config });
    else await sandbox(parseArguments(Deno.args), config);
  } catch (error) {
    panic(error instanceof Error ? error.message : `${error}`);
  }
}
