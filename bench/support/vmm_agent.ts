/**
 * Looks at the guest agent: how large it is in the image that guests boot, and what memory it takes
 * as PID 1 of a guest. No container can see PID 1, so the guest gets an onlooker: a second archive
 * behind the initrd, with a shell for the debug console that prints /proc/1/status again and again.
 *
 * @module
 */

import { type CpioEntry, readCpio, writeCpio } from "../../guest/image/cpio.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { createContainer, setUpGuest, startContainer } from "./vmm_guest.ts";
import type { VmmHost } from "./vmm_host.ts";
import { within } from "./within.ts";

/** What the agent takes as PID 1, in KiB, as proc_pid_status(5) tells it. */
export interface AgentMemory {
  /** Once it answers. */
  readonly readyKiB: number;
  /** With a container that runs. */
  readonly runningKiB: number;
}

/** Debian's static busybox. */
const BUSYBOX = "/bin/busybox";
/** How long the onlooker may be silent, in milliseconds: far beyond what it takes. */
const LOOK_MS = 60_000;
/** Switches the agent's debug console on. */
const CONSOLE_PARAMETER = "quasaur.console";

/** The onlooker. A number goes before each look, so that an old one is known. */
const ONLOOKER = `#!/usr/bin/busybox sh
busybox=/usr/bin/busybox
n=0
while :; do
  n=$((n+1))
  $busybox sed -n "s/^VmRSS:[^0-9]*\\([0-9]*\\) kB$/LOOK $n \\1 KiB/p" /proc/1/status
  $busybox sleep 0.2
done
`;

/**
 * The size of the agent in an initrd.
 *
 * @param initrd The initrd, an absolute path.
 * @returns In bytes.
 * @throws {Error} When it has no agent.
 */
export async function agentBytes(initrd: string): Promise<number> {
  const entries = readCpio(await Deno.readFile(initrd));
  const agent = entries.find(({ path }) => path === "init");
  if (agent?.kind !== "file") throw new Error(`found no agent (/init) in "${initrd}"`);
  return agent.bytes.length;
}

/**
 * Boots a guest with an onlooker and reads the agent's memory.
 *
 * @param host Boots it.
 */
export async function agentMemory(host: VmmHost): Promise<AgentMemory> {
  await using undo = new AsyncDisposableStack();
  const initrd = `${host.directory}/onlooker.cpio`;
  await writeOnlooker(host.spec.initrd, initrd);
  const place = await host.place(undo);
  const machine = await host.boot({
    ...host.spec,
    initrd,
    console: true,
    kernelParams: `${host.spec.kernelParams} ${CONSOLE_PARAMETER}`.trim(),
  }, place);
  undo.defer(() => machine.stop());
  const consoleLog = `${place.directory}/console.log`;
  using agent = await host.connect(machine);
  const readyKiB = await nextLook(consoleLog);
  await setUpGuest(agent, host.spec.interfaces);
  const serial = await host.attach(machine);
  const { first } = await createContainer(agent, { serial, cpus: host.spec.cpus });
  await startContainer(agent);
  await within(LOOK_MS, "the first output of a container", first);
  return { readyKiB, runningKiB: await nextLook(consoleLog) };
}

/** What the onlooker sees from now on. */
async function nextLook(consoleLog: string): Promise<number> {
  const before = (await looks(consoleLog)).length;
  return await waitFor("the onlooker in a guest", async () => {
    const all = await looks(consoleLog);
    // The first one after may have begun before.
    return all.length > before + 1 ? all.at(-1) : undefined;
  }, { timeoutMs: LOOK_MS, intervalMs: 50 });
}

async function looks(consoleLog: string): Promise<number[]> {
  const text = await Deno.readTextFile(consoleLog).catch(() => "");
  return [...text.matchAll(/LOOK \d+ (\d+) KiB\r?\n/g)].map(([, kib]) => Number(kib));
}

/** The installed initrd with files on top: the kernel unpacks one archive after the other. */
async function writeOnlooker(installed: string, target: string): Promise<void> {
  const file = (path: string, bytes: Uint8Array): CpioEntry => {
    return { kind: "file", path, mode: 0o755, bytes };
  };
  const onTop = writeCpio([
    { kind: "directory", path: "bin", mode: 0o755 },
    { kind: "directory", path: "usr", mode: 0o755 },
    { kind: "directory", path: "usr/bin", mode: 0o755 },
    file("usr/bin/busybox", await Deno.readFile(BUSYBOX)),
    file("bin/sh", new TextEncoder().encode(ONLOOKER)),
  ]);
  const first = await Deno.readFile(installed);
  const whole = new Uint8Array(first.length + onTop.length);
  whole.set(first);
  whole.set(onTop, first.length);
  await Deno.writeFile(target, whole, { mode: 0o644 });
}
