/**
 * What a user gets of QEMU without us: the same kernel, initrd and devices, started by nobody but
 * this process, as root, without confinement, until the guest's agent has said its first byte.
 *
 * @module
 */

import { FRAME, openingFrame } from "../../guest/protocol/frames.ts";
import { PROTOCOL_VERSION } from "../../guest/protocol/messages.ts";
import { defaultVmmConfig } from "../../sandboxers/vmm/config/load.ts";
import { MACHINE_FILES, qemuArguments } from "../../sandboxers/vmm/qemu/command_line.ts";
import type { VmmHost } from "./vmm_host.ts";
import { within } from "./within.ts";

/** How long the guest may take, in milliseconds: far beyond any goal. */
const BOOT_MS = 120_000;
/** How often to look whether QEMU listens, in milliseconds. */
const LOOK_MS = 2;
/** Options that only confine or control QEMU; each has a value. */
const OURS_ONLY = ["-sandbox", "-qmp"];

/**
 * Boots a machine to the first byte of its agent, and ends it.
 *
 * @param host Knows the machine.
 * @returns How long it took, in milliseconds.
 * @throws {Error} When QEMU ends, or nothing comes.
 */
export async function bareBoot(host: VmmHost): Promise<number> {
  const directory = await Deno.makeTempDir({ dir: host.directory, prefix: "bare-" });
  try {
    const args = bareArguments(host, directory);
    const begin = performance.now();
    const child = new Deno.Command(defaultVmmConfig().hypervisor.path, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const said = new Response(child.stderr).text();
    try {
      const firstByte = hearAgent(`${directory}/${MACHINE_FILES.agent}`);
      firstByte.catch(() => undefined);
      const ended = child.status.then(async ({ code }) => {
        throw new Error(`a bare QEMU ended with ${code}: ${await said}`);
      });
      ended.catch(() => undefined);
      const what = "the first byte of a guest under a bare QEMU";
      await within(BOOT_MS, what, Promise.race([firstByte, ended]));
      return performance.now() - begin;
    } finally {
      kill(child);
      await Promise.all([child.status, said]);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** The arguments that our QEMU has, without those that only we need. */
function bareArguments({ spec, tscKhz }: VmmHost, directory: string): string[] {
  const place = { directory, id: "bare", user: undefined, cgroup: "", sharedTreeSocket: undefined };
  // The guest has the same card: a tap behind it has to be made by somebody.
  const network = spec.network === "tap" ? { network: "user", interfaces: 1 } as const : {};
  const args = qemuArguments({
    spec: { ...spec, ...network },
    place,
    start: { kind: "boot", tscKhz },
    memory: { kind: "anonymous" },
    balloon: true,
    firstTapFd: 0,
  });
  return args.filter((arg, index) => {
    return !OURS_ONLY.includes(arg) && !OURS_ONLY.includes(args[index - 1] ?? "");
  });
}

/** Says who is there, and waits for any answer. */
async function hearAgent(path: string): Promise<void> {
  using connection = await connect(path);
  const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes));
  const opening = { nonce: random(8), session: random(8), protocol: PROTOCOL_VERSION, expected: 0 };
  await connection.write(openingFrame(FRAME.open, 0, opening));
  const count = await connection.read(new Uint8Array(1));
  if (count === null) throw new Error("a bare QEMU closed the connection to its guest");
}

/** Connects as soon as QEMU listens. */
async function connect(path: string): Promise<Deno.UnixConn> {
  for (const end = performance.now() + BOOT_MS;;) {
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (error) {
      if (performance.now() > end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}
