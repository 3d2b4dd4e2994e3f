/**
 * How long it takes from the wish for a container to its guest's first byte, without containerd: our
 * driver, in this process, against a process of the engine's own command line for each guest. Both
 * interpret the same module; ours has loaded it before, as a node has that runs many of an image.
 *
 * @module
 */

import { type EmbeddedKind, loadKind } from "../../sandboxers/embedded/kind.ts";
import type { SandboxHandle } from "../../sandboxers/lifecycle/driver.ts";
import type { ContainerSpec } from "../../sandboxers/lifecycle/spec.ts";
import { sandboxSpec } from "../../sandboxers/lifecycle/testing/specs.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { guestPath } from "../support/guests.ts";
import { PipePoll } from "../support/pipe_poll.ts";
import { within } from "../support/within.ts";

/** The name of the engine's command line in the results. */
const WASMEDGE = "wasmedge process";

/** How long a guest may take to write its first byte, in milliseconds. */
const FIRST_BYTE_TIMEOUT_MS = 10_000;

/** How many starts of one contender follow each other. */
const STARTS_IN_A_ROW = 10;

const POD = sandboxSpec("bench", { namespace: "bench" });

/**
 * Measures from create to the first byte.
 *
 * @param context See {@link BenchContext}.
 */
export async function engineStart(context: BenchContext): Promise<Measurement[]> {
  await using owned = new AsyncDisposableStack();
  const kind = owned.use(await loadKind("wasm"));
  const rootfs = owned.adopt(
    await Deno.makeTempDir({ prefix: "quasaur-bench-" }),
    (path) => Deno.remove(path, { recursive: true }),
  );
  await Deno.copyFile(guestPath("hello"), `${rootfs}/app.wasm`);
  const poll = owned.use(new PipePoll());
  const pod = owned.adopt(await kind.driver.start(POD, context.signal), (handle) => handle.stop(0));

  const host = { kind, pod, rootfs, poll };
  const contenders = [
    { name: OURS, sample: () => several(() => startGuest(host)) },
    { name: WASMEDGE, sample: () => several(startProcess) },
  ];
  const rounds = { count: 60, warmUps: 10, budgetMs: 30_000 };
  const samples = await takeSamples(context, contenders, rounds);
  return [{
    name: "engine start to first byte",
    unit: "ms",
    series: new Map([...samples].map(([name, blocks]) => [name, blocks.flat()])),
    peer: WASMEDGE,
    goals: [
      { kind: "value", atMost: 0.6 },
      { kind: "ratio", peer: WASMEDGE, atMost: 1 / 30, written: "1/30" },
    ],
  }];
}

/**
 * The times of several starts in a row. In strict alternation each start of ours would find the
 * processor's caches full of the process before it, which is not what a node with many guests sees.
 */
async function several(start: () => Promise<number>): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < STARTS_IN_A_ROW; index++) times.push(await start());
  return times;
}

/** What guests are started with. */
interface GuestHost {
  readonly kind: EmbeddedKind;
  readonly pod: SandboxHandle;
  /** The directory that holds the module. */
  readonly rootfs: string;
  readonly poll: PipePoll;
}

/** Creates and starts a container; answers the milliseconds until its first byte could be read. */
async function startGuest({ kind, pod, rootfs, poll }: GuestHost): Promise<number> {
  const { descriptors } = kind;
  await using owned = new AsyncDisposableStack();
  const [readEnd, writeEnd] = descriptors.pipe();
  owned.defer(() => descriptors.close(readEnd));
  owned.defer(() => descriptors.close(writeEnd));
  const spec = containerSpec(`bench-${writeEnd}`, rootfs, writeEnd);
  const { signal } = new AbortController();

  const begin = performance.now();
  const container = owned.adopt(
    await pod.createContainer(spec, signal),
    (handle) => handle.delete(),
  );
  const process = await container.start(signal);
  const written = poll.waitForByte(readEnd, FIRST_BYTE_TIMEOUT_MS);
  const elapsedMs = performance.now() - begin;

  const { status, reason } = await process.exited;
  if (!written || status !== 0) throw new Error(`the guest failed: ${reason}, status ${status}`);
  return elapsedMs;
}

/** Spawns the command line; answers the milliseconds until its first byte was read. */
async function startProcess(): Promise<number> {
  const command = new Deno.Command("wasmedge", {
    args: [guestPath("hello")],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  });
  const begin = performance.now();
  await using child = command.spawn();
  const reader = child.stdout.getReader();
  const { done } = await within(FIRST_BYTE_TIMEOUT_MS, "the first byte of wasmedge", reader.read());
  const elapsedMs = performance.now() - begin;

  reader.releaseLock();
  await child.stdout.cancel();
  const { code } = await child.status;
  if (done || code !== 0) throw new Error(`wasmedge failed: status ${code}`);
  return elapsedMs;
}

/** A container without anything but its module and its output. */
function containerSpec(id: string, rootfs: string, stdoutFd: number): ContainerSpec {
  return {
    id,
    sandboxId: POD.id,
    bundle: "",
    rootfs: { kind: "directory", path: rootfs },
    readonlyRootfs: true,
    process: {
      args: ["/app.wasm"],
      env: [],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
    },
    mounts: [],
    stdio: {
      stdin: { kind: "null" },
      stdout: { kind: "fd", fd: stdoutFd },
      stderr: { kind: "null" },
      terminal: false,
    },
    resources: {},
    annotations: {},
  };
}
