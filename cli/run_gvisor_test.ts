import assert from "node:assert/strict";
import { Command } from "commander";
import type { GvisorOpenOptions } from "../mod.ts";
import { EmbeddedGvisorSandboxer } from "../sandboxers/embedded/gvisor_sandboxer.ts";
import { ScriptDriver } from "../sandboxers/embedded/testing/script_driver.ts";
import { runGvisorCommand } from "./run_gvisor.ts";
import { Workplace } from "./testing/command.ts";
import { NO_SANDBOXERS } from "./testing/no_sandboxers.ts";

/** Runs the command on scripts. */
async function runGvisor(args: readonly string[]) {
  const driver = new ScriptDriver();
  const opened: GvisorOpenOptions[] = [];
  let code = -1;
  const command = runGvisorCommand((ended) => code = ended, {
    open: (options) => {
      opened.push(options);
      const loaded = { driver, [Symbol.asyncDispose]: () => Promise.resolve() };
      return Promise.resolve(new EmbeddedGvisorSandboxer(loaded, options));
    },
    terminal: () => undefined,
    through: NO_SANDBOXERS,
  });
  const program = new Command("run").enablePositionalOptions().addCommand(command);
  await program.parseAsync(["gvisor", ...args], { from: "user" });
  return { code, driver, opened };
}

Deno.test("run gvisor asks for what its options say", async () => {
  const { code, driver, opened } = await runGvisor([
    ...["--rootfs", "/tmp", "--cpus", "1.5", "--memory", "256Mi", "--net", "/run/netns/a"],
    ...["-e", "A=b", "-w", "/tmp", "-u", "5:6", "--hostname", "box"],
    ...["-v", "/tmp:/data:ro", "--read-only", "--config", "/c.toml", "--set", "a=1"],
    ...["--", "exit", "7"],
  ]);
  assert.equal(code, 7);
  assert.deepEqual(opened.map(({ config, set }) => ({ config, set })), [
    { config: "/c.toml", set: ["a=1"] },
  ]);
  const [sandbox] = driver.sandboxes;
  assert.deepEqual(sandbox?.network, { kind: "namespace", path: "/run/netns/a" });
  assert.deepEqual(sandbox?.resources, {
    memoryBytes: 256 << 20,
    cpuQuotaUs: 150_000,
    cpuPeriodUs: 100_000,
  });
  assert.equal(sandbox?.hostname, "box");
  const [container] = driver.containers;
  assert.deepEqual(container?.process.args, ["exit", "7"]);
  assert.deepEqual(container?.process.user, { uid: 5, gid: 6, additionalGids: [] });
  assert.deepEqual(container?.rootfs, { kind: "directory", path: "/tmp" });
  assert.deepEqual(container?.mounts, [{ source: "/tmp", destination: "/data", readonly: true }]);
  assert.equal(container?.readonlyRootfs, true);
});

Deno.test("run gvisor takes docker's names of options, and refuses memory that gVisor cannot start in", async () => {
  const words = ["--network", "host", "-m", "64m", "-l", "a=b", "--entrypoint", ""];
  const { driver } = await runGvisor([...words, "--rootfs", "/tmp", "exit", "0"]);
  assert.deepEqual(driver.sandboxes[0]?.network, { kind: "host" });
  assert.equal(driver.sandboxes[0]?.resources?.memoryBytes, 64 << 20);
  await assert.rejects(runGvisor(["--memory", "512", "--rootfs", "/tmp", "exit", "0"]), {
    name: "UsageError",
    message: /512 bytes are too few.*at least 8Mi/,
  });
});

Deno.test("run gvisor has no network unless it is asked for, and a hostname", async () => {
  const { driver } = await runGvisor(["--rootfs", "/tmp", "exit", "0"]);
  assert.deepEqual(driver.sandboxes[0]?.network, { kind: "none" });
  assert.equal(driver.sandboxes[0]?.hostname, "quasaur");
});

Deno.test("run gvisor kills the command when its time is over, and ends with 124", async () => {
  const { code } = await runGvisor(["--rootfs", "/tmp", "--timeout", "20ms", "sleep"]);
  assert.equal(code, 124);
});

Deno.test("run gvisor refuses command lines that make no sense, each with what is wrong", async () => {
  await using place = await Workplace.make();
  const wrong: [string[], RegExp][] = [
    [[], /missing required argument 'WHAT'.*--rootfs DIR/],
    [["--rootfs", "/"], /missing required argument 'COMMAND'/],
    [["--rootfs", "/", "-p", "80:80", "x"], /Cannot publish 80:80: the sandbox has no network/],
    [["--rootfs", "/", "--net", "user", "x"], /--net "user": expected none, host, or the absolute/],
  ];
  await Promise.all(wrong.map(async ([args, message]) => {
    const { code, stderr } = await place.run(["run", "gvisor", ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }));
});

Deno.test("run gvisor without the rights for it says how to get them, and asks nobody", async () => {
  await using place = await Workplace.make();
  const { code, stderr } = await place.run(["run", "gvisor", "--rootfs", "/", "true"]);
  assert.equal(code, 126);
  assert.match(stderr, /^quasaur: cannot run gVisor .*`deno task quasaur:gvisor`/);
});
