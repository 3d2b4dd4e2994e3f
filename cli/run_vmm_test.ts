import assert from "node:assert/strict";
import { Command } from "commander";
import { SandboxError, type TerminalSize, type VmmOpenOptions } from "../mod.ts";
import { ScriptDriver } from "../sandboxers/embedded/testing/script_driver.ts";
import { EmbeddedVmmSandboxer } from "../sandboxers/embedded/vmm_sandboxer.ts";
import type { OwnTerminal } from "./raw_terminal.ts";
import { runVmmCommand } from "./run_vmm.ts";
import { Workplace } from "./testing/command.ts";
import { NO_SANDBOXERS } from "./testing/no_sandboxers.ts";

/** A terminal that only takes notes. */
class PaperTerminal implements OwnTerminal {
  readonly modes: boolean[] = [];
  now: TerminalSize = { columns: 80, rows: 24 };
  listener: (() => void) | undefined;

  size(): TerminalSize {
    return this.now;
  }

  setRaw(raw: boolean): void {
    this.modes.push(raw);
  }

  onResize(listener: () => void): () => void {
    this.listener = listener;
    return () => this.listener = undefined;
  }
}

/** How a command ended, and what it asked for. */
interface Ended {
  readonly code: number;
  readonly driver: ScriptDriver;
  readonly opened: VmmOpenOptions[];
}

/** Runs the command on scripts. */
async function runVmm(
  args: readonly string[],
  {
    terminal,
    driver = new ScriptDriver(),
  }: { readonly terminal?: OwnTerminal; readonly driver?: ScriptDriver } = {},
): Promise<Ended> {
  const opened: VmmOpenOptions[] = [];
  let code = -1;
  const command = runVmmCommand((ended) => code = ended, {
    open: (options) => {
      opened.push(options);
      const loaded = { driver, [Symbol.asyncDispose]: () => Promise.resolve() };
      return Promise.resolve(new EmbeddedVmmSandboxer(loaded, options));
    },
    terminal: () => terminal,
    through: NO_SANDBOXERS,
  });
  const program = new Command("run").enablePositionalOptions().addCommand(command);
  await program.parseAsync(["vmm", ...args], { from: "user" });
  return { code, driver, opened };
}

const ROOTFS = ["--rootfs", "/rootfs"];

Deno.test("run vmm asks for what its options say", async () => {
  const { code, driver, opened } = await runVmm([
    ...["--image", "/a.erofs", "--cpus", "1.5", "--memory", "256Mi", "--net", "user"],
    ...["-e", "A=b", "--env", "C=d=e", "-w", "/tmp", "-u", "5:6", "--hostname", "box"],
    ...["-v", "/tmp:/data:ro", "--read-only", "--config", "/c.toml", "--set", "a=1", "--set=b=2"],
    ...["--", "exit", "7", "--env", "X=y"],
  ]);
  assert.equal(code, 7);
  assert.deepEqual(opened.map(({ config, set }) => ({ config, set })), [
    { config: "/c.toml", set: ["a=1", "b=2"] },
  ]);
  const [sandbox] = driver.sandboxes;
  assert.deepEqual(sandbox?.network, { kind: "user" });
  assert.deepEqual(sandbox?.resources, {
    memoryBytes: 256 << 20,
    cpuQuotaUs: 150_000,
    cpuPeriodUs: 100_000,
  });
  assert.equal(sandbox?.hostname, "box");
  assert.deepEqual(sandbox?.annotations, {});
  const [container] = driver.containers;
  assert.deepEqual(container?.process.args, ["exit", "7", "--env", "X=y"]);
  assert.deepEqual(container?.process.env.slice(1), ["A=b", "C=d=e"]);
  assert.equal(container?.process.cwd, "/tmp");
  assert.deepEqual(container?.process.user, { uid: 5, gid: 6, additionalGids: [] });
  assert.deepEqual(container?.rootfs, { kind: "directory", path: "/a.erofs" });
  assert.deepEqual(container?.mounts, [{ source: "/tmp", destination: "/data", readonly: true }]);
  assert.equal(container?.readonlyRootfs, true);
  assert.deepEqual(container?.resources, { memoryBytes: 256 << 20 });
  assert.deepEqual(container?.stdio, {
    stdin: { kind: "fd", fd: 0 },
    stdout: { kind: "fd", fd: 1 },
    stderr: { kind: "fd", fd: 2 },
    terminal: false,
  });
});

Deno.test("run vmm has no network unless it is asked for, and a shared tree for what is written", async () => {
  const { driver } = await runVmm([...ROOTFS, "-v", "/tmp:/data", "exit", "0"]);
  assert.deepEqual(driver.sandboxes[0]?.network, { kind: "none" });
  assert.deepEqual(driver.sandboxes[0]?.annotations, { "quasaur.dev/share-fs": "virtiofs" });
});

Deno.test("run vmm kills the command when its time is over, and ends with 124", async () => {
  const { code, driver } = await runVmm([...ROOTFS, "--timeout", "20ms", "sleep"]);
  assert.equal(code, 124);
  assert.deepEqual(driver.processes[0]?.signals[0], 9);
  assert.ok(driver.deeds.includes("stop"));
});

Deno.test("run vmm gives a start up when its time is over", async () => {
  const args = [...ROOTFS, "--hostname", "slow", "--timeout", "20ms", "exit", "0"];
  assert.equal((await runVmm(args)).code, 124);
});

Deno.test("run vmm lends its terminal, follows its size, and takes it back", async () => {
  const terminal = new PaperTerminal();
  const driver = new ScriptDriver();
  const running = runVmm([...ROOTFS, "-it", "sleep"], { terminal, driver });
  while (terminal.listener === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  terminal.now = { columns: 100, rows: 40 };
  terminal.listener();
  const [process] = driver.processes;
  await process?.kill(2);
  assert.equal((await running).code, 130);
  assert.deepEqual(terminal.modes, [true, false]);
  assert.equal(terminal.listener, undefined);
  assert.deepEqual(process?.stdio.terminalSize, { columns: 80, rows: 24 });
  assert.deepEqual(process?.sizes, [[80, 24], [100, 40]]);
  assert.equal(process?.stdio.terminal, true);
});

Deno.test("run vmm tells failures with their codes", async () => {
  const driver = new ScriptDriver();
  driver.failure = new SandboxError("FailedPrecondition", "cannot boot: no kernel");
  await assert.rejects(runVmm([...ROOTFS, "exit"], { driver }), { message: /no kernel/ });
  assert.equal((await runVmm([...ROOTFS, "oom"])).code, 137);
});

Deno.test("run vmm refuses command lines that make no sense, each with what is wrong", async () => {
  await using place = await Workplace.make();
  const wrong: [string[], RegExp][] = [
    [[], /missing required argument 'WHAT'/],
    [["--rootfs", "/"], /missing required argument 'COMMAND'/],
    [
      ["--rootfs", "/", "--net", "none", "-p", "80:80", "x"],
      /Cannot publish ports with --net none/,
    ],
    [["--rootfs", "/", "--image", "/a", "x"], /either --rootfs DIR or --image IMAGE/],
    [["--rootfs", "/", "-t", "x"], /Cannot use -t: .* no terminal/],
    [["--net", "host", "x"], /--net "host": expected none or user/],
  ];
  const ends = wrong.map(async ([args, message]) => {
    const { code, stdout, stderr } = await place.run(["run", "vmm", ...args]);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, message);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  });
  await Promise.all(ends);
});

Deno.test("run vmm --help shows its options and how to begin", async () => {
  await using place = await Workplace.make();
  const { code, stdout } = await place.run(["run", "vmm", "--help"]);
  assert.equal(code, 0);
  for (const word of ["--rootfs", "--image", "--net", "--tty", "Examples:"]) {
    assert.ok(stdout.includes(word), word);
  }
});

Deno.test("run vmm without the rights for it says how to get them, and asks nobody", async () => {
  await using place = await Workplace.make();
  const { code, stderr } = await place.run(["run", "vmm", "--rootfs", "/", "true"]);
  assert.equal(code, 126);
  assert.match(stderr, /^quasaur: cannot run machines .*`deno task quasaur:vmm`/);
});
