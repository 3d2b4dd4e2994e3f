/**
 * The real compiler: what it makes, what it refuses, and how it is held.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type GuestName, GUESTS_BUILD_DIR } from "../../../tests/guests/build.ts";
import { buildLauncher } from "../native/build.ts";
import { DEFAULT_LAUNCHER_PATH } from "../native/launcher_file.ts";
import { type CompileLimits, LauncherCompiler } from "./compiler.ts";
import { NEVER, until } from "./fixture.ts";

const OPTIONS = { optimizationLevel: 0, interruptible: false } as const;
const ELF = new Uint8Array([0x7f, 0x45, 0x4c, 0x46]);

if (!await Deno.stat(DEFAULT_LAUNCHER_PATH).then(() => true, () => false)) {
  await buildLauncher({ outDir: DEFAULT_LAUNCHER_PATH.replace(/\/[^/]*$/, "") });
}

/** The module of a guest. */
async function guestBytes(name: GuestName): Promise<Uint8Array<ArrayBuffer>> {
  return await Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`);
}

/** Compiles a module and keeps the library. */
async function compile(
  module: Uint8Array<ArrayBuffer>,
  limits: Partial<CompileLimits> = {},
  signal = NEVER,
  optimizationLevel: 0 | 2 = 0,
) {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const sink = {
    write(chunk: Uint8Array<ArrayBuffer>): Promise<void> {
      chunks.push(chunk.slice());
      return Promise.resolve();
    },
  };
  const options = { ...OPTIONS, optimizationLevel };
  const compiler = new LauncherCompiler({ options, limits });
  const outcome = await compiler.compile(module, sink, signal);
  return { outcome, library: new Uint8Array(await new Blob(chunks).arrayBuffer()) };
}

/** A number in LEB128, as WebAssembly writes it. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value % 0x80 | 0x80);
  return [...bytes, value];
}

/** A module with one function of one local, `_start`. */
function moduleOf(body: readonly number[], count = 1): Uint8Array<ArrayBuffer> {
  const section = (
    id: number,
    content: readonly number[],
  ) => [id, ...leb(content.length), ...content];
  const code = [1, 1, 0x7f, ...body, 0x0b];
  const functions = Array.from({ length: count }, () => [...leb(code.length), ...code]).flat();
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [1, 0x60, 0, 0]),
    ...section(3, [...leb(count), ...new Array<number>(count).fill(0)]),
    ...section(7, [1, 6, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74, 0, 0]),
    ...section(10, [...leb(count), ...functions]),
  ]);
}

/** Nothing but blocks in blocks: the compiler takes memory for each. */
function nested(depth: number): Uint8Array<ArrayBuffer> {
  const open = new Array<number>(2 * depth).fill(0).map((_, at) => at % 2 === 0 ? 0x02 : 0x40);
  return moduleOf([...open, ...new Array<number>(depth).fill(0x0b)]);
}

/** Branches out of many loops from many places: what is known at each takes long to work out. */
function tangled(): Uint8Array<ArrayBuffer> {
  const loops = 300;
  const jumps = Array.from({ length: 20_000 }, () => [
    ...[0x20, 0, 0x0d, 7, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0, 0x20, 0, 0x0d, ...leb(200)],
  ]).flat();
  const open = Array.from({ length: loops }, () => [0x03, 0x40]).flat();
  return moduleOf([...open, ...jumps, ...new Array<number>(loops).fill(0x0b)]);
}

Deno.test("a module becomes a shared library", async () => {
  const { outcome, library } = await compile(await guestBytes("hello"));
  assert.deepEqual(outcome, { kind: "compiled" });
  assert.deepEqual(library.subarray(0, 4), ELF);
  assert.ok(library.length > 10_000);
});

Deno.test("what is no module, or a damaged one, is refused with the engine's words", async () => {
  const hello = await guestBytes("hello");
  const cases: [Uint8Array<ArrayBuffer>, RegExp][] = [
    [new Uint8Array(), /unexpected end/],
    [new TextEncoder().encode("#!/bin/sh\n"), /magic header not detected/],
    [hello.slice(0, hello.length / 2), /length out of bounds|unexpected end/],
    [hello.slice().fill(0xff, 200, 400), /./],
  ];
  for (const [module, words] of cases) {
    const { outcome, library } = await compile(module);
    assert.ok(outcome.kind === "failed", JSON.stringify(outcome));
    assert.match(outcome.reason, words);
    assert.equal(library.length, 0);
  }
});

Deno.test("no damage to a module ends the compiler otherwise than with an answer", async () => {
  const hello = await guestBytes("hello");
  let seed = 1;
  const random = (below: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  for (let round = 0; round < 40; round++) {
    const module = hello.slice();
    for (let i = 0; i <= round % 4; i++) module[8 + random(module.length - 8)] = random(256);
    const { outcome } = await compile(module, { cpuSeconds: 20 });
    assert.ok(outcome.kind !== "unavailable", JSON.stringify(outcome));
    if (outcome.kind === "failed") assert.doesNotMatch(outcome.reason, /crash|killed|status/);
  }
});

Deno.test("a module that takes too much memory is given up", async () => {
  const { outcome } = await compile(nested(300_000), { memoryBytes: 268_435_456 });
  assert.deepEqual(outcome, {
    kind: "failed",
    reason: "it takes more than 256 MiB of memory to compile",
  });
});

Deno.test("a module that takes too much computing is given up", async () => {
  const { outcome } = await compile(tangled(), { cpuSeconds: 1 }, NEVER, 2);
  assert.deepEqual(outcome, {
    kind: "failed",
    reason: "it takes more than 1 seconds to compile",
  });
});

Deno.test("a module that takes too long on the clock is given up", async () => {
  const { outcome } = await compile(tangled(), { wallMs: 200 }, NEVER, 2);
  assert.deepEqual(outcome, { kind: "failed", reason: "it takes more than 200 ms to compile" });
});

Deno.test("a module or a library that is too large is refused", async () => {
  const args = await guestBytes("args");
  const module = await compile(args, { moduleBytes: 1_000 });
  assert.deepEqual(module.outcome, {
    kind: "failed",
    reason: `it has ${args.length} bytes: most are 1000`,
  });
  const library = await compile(args, { libraryBytes: 50_000 });
  assert.deepEqual(library.outcome, {
    kind: "failed",
    reason: "its code is larger than 50000 bytes",
  });
});

Deno.test("a module with instructions that the compiler lacks is refused", async () => {
  // (tag) and (throw 0): exceptions.
  const module = moduleOf([0x08, 0]);
  const withTag = new Uint8Array(module.length + 5);
  const at = module.indexOf(7, 14);
  withTag.set(module.subarray(0, at));
  withTag.set([13, 3, 1, 0, 0], at);
  withTag.set(module.subarray(at), at + 5);
  const { outcome } = await compile(withTag);
  assert.deepEqual(outcome, { kind: "failed", reason: "Not implemented instructions in AOT/JIT" });
});

Deno.test("a launcher that is missing is not the module's fault", async () => {
  const compiler = new LauncherCompiler({ options: OPTIONS, launcher: "/nowhere/launcher" });
  const sink = { write: () => Promise.resolve() };
  const outcome = await compiler.compile(await guestBytes("hello"), sink, NEVER);
  assert.ok(outcome.kind === "unavailable");
  assert.match(outcome.reason, /cannot start "\/nowhere\/launcher"/);
});

Deno.test("a sink that fails ends the compiler and is told", async () => {
  const compiler = new LauncherCompiler({ options: OPTIONS });
  const sink = { write: () => Promise.reject(new Error("disk full")) };
  await assert.rejects(compiler.compile(await guestBytes("hello"), sink, NEVER), /disk full/);
  await until("nothing runs", () => launchers().length === 0);
});

/** The ids of launchers that this process has started, and of theirs. */
function launchers(): number[] {
  const parents = new Map<number, number>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (stat.includes("(quasaur-launche") && state !== "Z") parents.set(+name, Number(parent));
    } catch {
      // It has ended.
    }
  }
  const own = [...parents].filter(([, parent]) => parent === Deno.pid).map(([pid]) => pid);
  return [...own, ...[...parents].filter(([, p]) => own.includes(p)).map(([pid]) => pid)];
}

Deno.test("aborting a compile ends both processes of it", async () => {
  const abort = new AbortController();
  const running = compile(tangled(), {}, abort.signal, 2);
  await until("both run", () => launchers().length === 2);
  const pids = launchers();
  abort.abort();
  assert.equal((await running).outcome.kind, "unavailable");
  const isGone = (pid: number) => !launchers().includes(pid) && isZombieOrGone(pid);
  await until("both are gone", () => pids.every(isGone));
});

Deno.test("a compiler dies with who started it", async () => {
  const parent = new Deno.Command("sh", {
    args: ["-c", `exec 3<&0; "$0" compile <&3 & wait`, DEFAULT_LAUNCHER_PATH],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let pids: number[] = [];
  await until("both run", () => (pids = descendants(parent.pid)).length === 2);
  parent.kill("SIGKILL");
  await parent.status;
  await until("both are gone", () => pids.every(isZombieOrGone));
  await parent.stdin.abort().catch(() => undefined);
});

/** The ids of a process's children and theirs. */
function descendants(pid: number): number[] {
  const read = (of: number) => {
    try {
      return Deno.readTextFileSync(`/proc/${of}/task/${of}/children`).trim();
    } catch {
      return "";
    }
  };
  const children = read(pid).split(" ").filter((text) => text !== "").map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function isZombieOrGone(pid: number): boolean {
  try {
    return /\) Z/.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return true;
  }
}

Deno.test({
  name: "the compiler works confined: no user, capability, file, network or new privilege",
  ignore: Deno.uid() !== 0,
  async fn() {
    const abort = new AbortController();
    const running = compile(tangled(), {}, abort.signal, 2);
    try {
      await until("both run", () => launchers().length === 2);
      const [, worker = 0] = launchers();
      const read = (name: string) => Deno.readTextFileSync(`/proc/${worker}/${name}`);
      // The filter is the last of its settings.
      await until("it is confined", () => /^Seccomp:\t2$/m.test(read("status")));
      const status = read("status");
      for (const id of ["Uid", "Gid"]) {
        assert.match(status, new RegExp(`^${id}:\t65534\t65534\t65534\t65534$`, "m"));
      }
      assert.match(status, /^Groups:\s*$/m);
      for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"]) {
        assert.match(status, new RegExp(`^Cap${set}:\t0{16}$`, "m"));
      }
      assert.match(status, /^NoNewPrivs:\t1$/m);
      for (const namespace of ["mnt", "net", "ipc", "pid", "uts", "cgroup"]) {
        const [its, ours] = [worker, "self"].map((who) =>
          Deno.readLinkSync(`/proc/${who}/ns/${namespace}`)
        );
        assert.notEqual(its, ours, namespace);
      }
      const mounts = read("mountinfo").trim().split("\n");
      assert.equal(mounts.length, 1);
      assert.match(mounts[0] ?? "", / \/ \/ rw,nosuid,nodev,noexec\S* .*- tmpfs .*size=/);
      assert.equal(read("oom_score_adj").trim(), "1000");
      assert.equal(read("stat").split(") ")[1]?.split(" ")[16], "19", "nice");
      const limits = read("limits");
      assert.match(limits, /^Max core file size\s+0\s+0\s/m);
      assert.match(limits, /^Max data size\s+2147483648\s+2147483648\s/m);
      assert.match(limits, /^Max cpu time\s+300\s+302\s/m);
      const links = [...Deno.readDirSync(`/proc/${worker}/fd`)]
        .map(({ name }) => Deno.readLinkSync(`/proc/${worker}/fd/${name}`));
      assert.ok(links.every((link) => /^(pipe|socket):|^\/work\/module/.test(link)), `${links}`);
    } finally {
      abort.abort();
      await running;
    }
  },
});

Deno.test({
  name: "an ordinary user's compiler works too",
  ignore: Deno.uid() !== 0,
  async fn() {
    const place = await Deno.makeTempDir({ prefix: "quasaur-launcher-" });
    try {
      await Deno.chmod(place, 0o755);
      await Deno.copyFile(DEFAULT_LAUNCHER_PATH, `${place}/launcher`);
      await Deno.chmod(`${place}/launcher`, 0o755);
      const child = new Deno.Command("setpriv", {
        args: ["--reuid=65534", "--regid=65534", "--clear-groups", `${place}/launcher`, "compile"],
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(await guestBytes("hello"));
      await writer.close();
      const { code, stdout, stderr } = await child.output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.deepEqual(new Uint8Array(stdout.subarray(0, 4)), ELF);
    } finally {
      await Deno.remove(place, { recursive: true });
    }
  },
});
