/**
 * Starts a unit of systemd without systemd, as far as that goes: its command, environment,
 * directories, limits and rights. What systemd does with filters of system calls is left out.
 *
 * @module
 */

import type { Daemon, PrivateMachine } from "./private_machine.ts";
import { waitFor } from "./wait.ts";

/** A unit file. */
export class UnitFile {
  readonly #entries: readonly (readonly [section: string, key: string, value: string])[];

  /**
   * Reads a unit file.
   *
   * @param text Its text.
   */
  constructor(text: string) {
    const entries: (readonly [string, string, string])[] = [];
    let section = "";
    // A line that ends with a backslash goes on in the next one; comments do not. Source:
    // systemd.syntax(7).
    for (const line of text.replaceAll(/^[#;].*\n/gm, "").replaceAll(/\\\n\s*/g, " ").split("\n")) {
      const [, name] = /^\[(\w+)\]$/.exec(line) ?? [];
      if (name !== undefined) section = name;
      const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
      if (key !== undefined && value !== undefined) entries.push([section, key, value]);
      else if (name === undefined && line.trim() !== "") {
        throw new Error(`cannot read the unit file: ${JSON.stringify(line)}`);
      }
    }
    this.#entries = entries;
  }

  /** All values of a key of [Service]. */
  all(key: string): string[] {
    return this.#entries.flatMap(([section, name, value]) =>
      section === "Service" && name === key ? [value] : []
    );
  }

  /**
   * The last value of a key of [Service].
   *
   * @throws {Error} Where it has none.
   */
  value(key: string): string {
    const found = this.all(key).at(-1);
    if (found === undefined) throw new Error(`the unit file has no ${key}`);
    return found;
  }
}

/** A unit that was started. */
export interface StartedUnit extends AsyncDisposable {
  /** Its main process. */
  readonly daemon: Daemon;
  /** What it has told systemd so far, a line each. */
  readonly told: readonly string[];
}

/** A unit and the machine that it is in. */
export interface UnitOptions {
  /** The machine. */
  readonly machine: PrivateMachine;
  /** Its name, such as `quasaur-wasm`. */
  readonly name: string;
}

/**
 * Starts a unit that is installed in a machine, and waits until it says that it is ready.
 *
 * @param options The unit.
 */
export async function startUnit({ machine, name }: UnitOptions): Promise<StartedUnit> {
  const path = machine.path(`/usr/lib/systemd/system/${name}.service`);
  const unit = new UnitFile(await Deno.readTextFile(path));
  await makeDirectories(machine, unit);
  const environment = await environmentOf(machine, unit);
  const told: string[] = [];
  const socket = await listenAsSystemd(machine, told);
  const env = {
    ...Object.fromEntries(environment),
    NOTIFY_SOCKET: "/run/systemd/notify",
    WATCHDOG_USEC: `${Number(unit.value("WatchdogSec")) * 1_000_000}`,
  };
  const words = unit.value("ExecStart").split(/\s+/).flatMap((word) => {
    const [, variable] = /^\$(\w+)$/.exec(word) ?? [];
    if (variable === undefined) return [word];
    return (environment.get(variable) ?? "").split(/\s+/).filter((it) => it !== "");
  });
  const daemon = await machine.daemon(name, [...rightsOf(unit), ...words], env);
  const started = {
    daemon,
    told,
    async [Symbol.asyncDispose]() {
      await daemon.stop();
      socket.close();
    },
  };
  try {
    await waitFor(`${name} to be ready`, async () => {
      if (!await daemon.isRunning()) throw new Error(`it ended: ${await daemon.log()}`);
      return told.includes("READY=1");
    });
    return started;
  } catch (error) {
    await started[Symbol.asyncDispose]();
    throw error;
  }
}

async function makeDirectories(machine: PrivateMachine, unit: UnitFile): Promise<void> {
  const mode = unit.value("RuntimeDirectoryMode");
  for (const name of unit.value("RuntimeDirectory").split(" ")) {
    await machine.run(["install", "-d", "-m", mode, `/run/${name}`]);
  }
  for (const name of unit.value("CacheDirectory").split(" ")) {
    await machine.run(["install", "-d", "-m", "0755", `/var/cache/${name}`]);
  }
}

async function environmentOf(
  machine: PrivateMachine,
  unit: UnitFile,
): Promise<ReadonlyMap<string, string>> {
  const lines = unit.all("Environment").flatMap((value) => value.split(" "));
  for (const file of unit.all("EnvironmentFile")) {
    const text = await Deno.readTextFile(machine.path(file.replace(/^-/, "")));
    lines.push(...text.split("\n").filter((line) => /^\w+=/.test(line)));
  }
  return new Map(lines.map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1).replaceAll(/^"|"$/g, "")];
  }));
}

/** Takes what services tell. */
async function listenAsSystemd(
  machine: PrivateMachine,
  told: string[],
): Promise<Deno.DatagramConn> {
  await machine.run(["mkdir", "-p", "/run/systemd"]);
  await machine.run(["rm", "-f", "/run/systemd/notify"]);
  const path = machine.path("/run/systemd/notify");
  const socket = Deno.listenDatagram({ transport: "unixpacket", path });
  (async () => {
    for await (const [bytes] of socket) told.push(...new TextDecoder().decode(bytes).split("\n"));
  })().catch(() => undefined);
  return socket;
}

/** Raises what only a process with CAP_SYS_RESOURCE may: in a container nobody has it. */
const LIMITS = `{ echo "$1" >/proc/self/oom_score_adj; ulimit -n "$2"; } 2>/dev/null
shift 2; exec "$@"`;

/** What gives a command the limits and rights of a unit. */
function rightsOf(unit: UnitFile): string[] {
  const dropped = unit.value("CapabilityBoundingSet").replace("~", "").split(/\s+/)
    .map((name) => `-${name.replace("CAP_", "").toLowerCase()}`);
  return [
    ...["sh", "-c", LIMITS, "sh", unit.value("OOMScoreAdjust"), unit.value("LimitNOFILE")],
    ...["setpriv", `--bounding-set=${dropped.join(",")}`],
    ...(unit.value("NoNewPrivileges") === "yes" ? ["--no-new-privs"] : []),
  ];
}
