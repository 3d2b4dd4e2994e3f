/**
 * Cases about what a container's process is given and gives back: arguments, environment, output,
 * exit codes, signals, statistics.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import { runtime } from "../support/cri.ts";
import { waitFor } from "../support/wait.ts";
import { rejectsWith } from "./rejects.ts";
import type { Program, Target } from "./target.ts";

/** Exit codes of a process that was stopped: by SIGTERM, or by SIGKILL when it took no notice. */
const STOPPED = [128 + 15, 128 + 9];

/** Registers the cases. */
export function processCases(target: Target, test: RegisterBedTest): void {
  inputCases(target, test);
  stopCases(target, test);
  statisticsCases(target, test);
  execCases(target, test);
  workingDirectoryCases(target, test);
  const { handler, image, path } = target;

  test("the exit code is the process's own", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    for (const code of [0, 1, 42, 255]) {
      const env = { EXIT_CODE: String(code) };
      const options = { name: `exit-${code}`, image, command: [path("args")], env };
      const { exitCode, reason } = await pod.runContainer(options);
      assert.equal(exitCode, code);
      assert.equal(reason, code === 0 ? "Completed" : "Error");
    }
  });

  test("standard output and standard error are kept apart, in order and whole", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: [path("lines")], args: ["1000"], env: { ID: "x" } };
    const { exitCode, stdout, stderr } = await pod.runContainer(options);
    assert.equal(exitCode, 0);
    const numbers = Array.from({ length: 1000 }, (_, index) => index);
    assert.deepEqual(stdout.map((line) => line.split(" ").slice(0, 3).join(" ")), [
      ...numbers.map((number) => `x out ${number}`),
    ]);
    assert.deepEqual(
      stderr,
      numbers.filter((number) => number % 10 === 0).map((number) => `x err ${number}`),
    );
  });
}

/** Cases about what goes in. */
function inputCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  test("arguments and environment arrive as they were given", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const args = ["one", "two words", "", "-x", "ünï", 'quo"te', "new\\nline"];
    const env = { PLAIN: "1", SPACES: "a b  c", EMPTY: "", EQUALS: "a=b", UNICODE: "ü" };
    const { exitCode, stdout } = await pod.runContainer({
      image,
      command: [path("args")],
      args,
      env,
    });
    assert.equal(exitCode, 0);
    assert.deepEqual(stdout.filter((line) => line.startsWith("arg ")).slice(1), [
      ...args.map((arg) => `arg ${arg}`),
    ]);
    for (const [key, value] of Object.entries(env)) {
      assert.ok(stdout.includes(`env ${key}=${value}`), `${key} in ${stdout.join("; ")}`);
    }
    assert.ok(stdout.includes("env FROM_IMAGE=yes"), "the image's environment is there too");
  });

  test("without a command the image's entrypoint runs, with the given arguments", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({ image, args: ["a", "b"] });
    const args = stdout.filter((line) => line.startsWith("arg "));
    assert.deepEqual(args, [`arg ${path("args")}`, "arg a", "arg b"]);
  });

  test("without standard input a process reads its end at once", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const { exitCode, stdout } = await pod.runContainer({ image, command: [path("cat")] });
    assert.equal(exitCode, 0);
    assert.deepEqual(stdout, []);
  });
}

/** Cases about ends that somebody asked for. */
function stopCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  const busy: readonly (readonly [Program, string])[] = [["sleep", "sleeping"], [
    "spin",
    "spinning",
  ]];
  for (const [program, line] of busy) {
    for (const graceSeconds of [0, 1]) {
      test(`a ${line} process is stopped with ${graceSeconds} s of grace`, async ({ cri }) => {
        await using pod = await cri.runPod({ handler });
        const container = await pod.startContainer({ image, command: [path(program)] });
        await container.printed(line);
        await container.stop(graceSeconds);
        const { exitCode } = await container.exited();
        assert.ok(STOPPED.includes(exitCode), `exit code ${exitCode}`);
      });
    }
  }

  test("a process that waits for input is stopped", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("cat")], stdin: true });
    assert.equal(await container.state(), "RUNNING");
    await container.stop(1);
    assert.ok(STOPPED.includes((await container.exited()).exitCode));
  });

  test("stopping a container that has ended changes nothing", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: [path("args")], env: { EXIT_CODE: "7" } };
    const { container } = await pod.runContainer(options);
    await container.stop(0);
    assert.equal((await container.status()).exitCode, 7);
  });
}

/** Cases about what is used. */
function statisticsCases(
  { handler, image, path, abilities }: Target,
  test: RegisterBedTest,
): void {
  test("statistics show the CPU time of a computing container, and memory", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("spin")] });
    await container.printed("spinning");
    const cpuNs = async () => (await container.stats()).cpu?.usageCoreNanoSeconds?.value ?? 0n;
    const first = await cpuNs();
    await waitFor("CPU time to grow by 50 ms", async () => (await cpuNs()) > first + 50_000_000n);
    const stats = await container.stats();
    assert.equal(stats.attributes?.id, container.id);
    assert.ok((stats.memory?.workingSetBytes?.value ?? 0n) > 0n, "memory is used");
  });

  test("a container that takes 32 MiB is seen to use them", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: [path("memory")], args: ["32", "60"] };
    const container = await pod.startContainer(options);
    await container.printed("took 32 MiB");
    const bytes = async () => (await container.stats()).memory?.usageBytes?.value ?? 0n;
    await waitFor("32 MiB to be seen", async () => (await bytes()) >= 32n << 20n);
  });

  test("statistics of a pod can be read", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const { stats } = await cri.client.call(runtime.podSandboxStats, { podSandboxId: pod.id });
    assert.equal(stats?.attributes?.id, pod.id);
  });

  test("new limits are taken, or refused as not implemented", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    const call = cri.client.call(runtime.updateContainerResources, {
      containerId: container.id,
      linux: { cpuShares: 512n },
    });
    if (abilities.update) await call;
    else await rejectsWith("Unimplemented", call);
    assert.equal(await container.state(), "RUNNING");
  });
}

/** Cases about more processes in a container. */
function execCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, abilities, greeting } = target;
  if (!abilities.exec) {
    test("exec is refused as not implemented, and the container goes on", async ({ cri }) => {
      await using pod = await cri.runPod({ handler });
      const container = await pod.startContainer({ image, command: [path("sleep")] });
      await container.printed("sleeping");
      await rejectsWith(["Unimplemented", "Unknown"], container.exec([path("hello")]), /exec/i);
      assert.equal(await container.state(), "RUNNING");
    });
    return;
  }

  test("exec runs a program beside the container's own and gives back all of it", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({
      image,
      command: [path("sleep")],
      env: { EXIT_CODE: "9", ID: "e" },
    });
    await container.printed("sleeping");
    assert.deepEqual(await container.exec([path("hello")]), {
      exitCode: 0,
      stdout: `${greeting}\n`,
      stderr: "",
    });
    assert.equal((await container.exec([path("args")])).exitCode, 9);
    assert.equal((await container.exec([path("lines"), "1"])).stderr, "e err 0\n");
    assert.equal(await container.state(), "RUNNING");
  });

  test("an exec with its streams attached reads, writes and tells its exit code", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({
      image,
      command: [path("sleep")],
      env: { EXIT_CODE: "9", ID: "e" },
    });
    await container.printed("sleeping");
    using args = await container.execStreaming([path("args")]);
    assert.equal((await args.ended()).exitCode, 9);
    using lines = await container.execStreaming([path("lines"), "1"]);
    assert.equal((await lines.ended()).stderr, "e err 0\n");
    const cat = await container.execStreaming([path("cat")]);
    for (let sent = ""; sent.length < 100_000;) {
      const more = "line\n".repeat(5_000);
      sent += more;
      cat.send(more);
      await cat.printed(sent);
    }
    await cat.close();
  });

  test("an exec ends with its container, and none starts in one that has ended", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    using exec = await container.execStreaming([path("sleep")]);
    await exec.printed("sleeping\n");
    await container.stop(0);
    assert.equal((await exec.ended()).exitCode, 137);
    await assert.rejects(container.exec([path("hello")]));
  });

  test("a program that is not in the image cannot be executed, by name", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    await assert.rejects(container.exec(["/no-such-program.wasm"]), /no-such-program\.wasm/);
    assert.equal((await container.exec([path("hello")])).stdout, `${greeting}\n`);
  });

  test("20 execs at once are neither crossed nor lost", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: [path("sleep")], env: { ID: "e" } };
    const container = await pod.startContainer(options);
    await container.printed("sleeping");
    const lengths = Array.from({ length: 20 }, (_, index) => index + 1);
    await Promise.all(lengths.map(async (length) => {
      const { exitCode, stdout } = await container.exec([path("lines"), String(length)]);
      assert.equal(exitCode, 0);
      assert.equal(stdout.trim().split("\n").length, length);
    }));
  });
}

/** Cases about where a process starts. */
function workingDirectoryCases(
  { handler, image, path, abilities }: Target,
  test: RegisterBedTest,
): void {
  if (!abilities.workingDirectory) {
    test("PWD tells the working directory", async ({ cri }) => {
      await using pod = await cri.runPod({ handler });
      for (const workingDir of ["/", "/some/where"]) {
        const options = { name: `cwd${workingDir.length}`, image, command: [path("args")] };
        const { stdout } = await pod.runContainer({ ...options, workingDir });
        assert.ok(stdout.includes(`env PWD=${workingDir}`), stdout.join("; "));
      }
    });
    return;
  }

  test("relative paths start at the working directory that was given", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    for (
      const [workingDir, text] of [["/", "at the top"], ["/some/where", "further down"]] as const
    ) {
      const options = { name: `cwd${workingDir.length}`, image, workingDir };
      const { stdout } = await pod.runContainer({
        ...options,
        command: [path("cwd")],
        args: ["note"],
      });
      assert.ok(stdout.includes(`note: ${text}`), stdout.join("; "));
    }
  });
}
