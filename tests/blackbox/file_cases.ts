/**
 * Cases about files: the root file system of each container, and directories of the host.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import type { Target } from "./target.ts";

/** Registers the cases. */
export function fileCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  const command = [path("fs")];

  test("a container writes to its own root file system and not to another's", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const first = await pod.runContainer({
      name: "first",
      image,
      command,
      args: ["w:/diary", "r:/diary"],
    });
    assert.deepEqual(first.stdout, ["write /diary: ok", "read /diary: written"]);
    const second = await pod.runContainer({ name: "second", image, command, args: ["r:/diary"] });
    assert.match(second.stdout[0] ?? "", /^read \/diary: .*No such file/);
  });

  test("a container sees a directory of the host, and changes it", async ({ bed, cri }) => {
    const hostPath = await Deno.makeTempDir({ dir: bed.directory });
    await Deno.writeTextFile(`${hostPath}/given`, "from the host");
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command,
      args: ["r:/data/given", "w:/data/taken"],
      mounts: [{ hostPath, containerPath: "/data" }],
    });
    assert.deepEqual(stdout, ["read /data/given: from the host", "write /data/taken: ok"]);
    assert.equal(await Deno.readTextFile(`${hostPath}/taken`), "written");
  });

  test("a directory that is mounted read-only cannot be changed", async ({ bed, cri }) => {
    const hostPath = await Deno.makeTempDir({ dir: bed.directory });
    await Deno.writeTextFile(`${hostPath}/given`, "from the host");
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command,
      args: ["r:/data/given", "w:/data/given", "w:/data/new"],
      mounts: [{ hostPath, containerPath: "/data", readonly: true }],
    });
    assert.equal(stdout[0], "read /data/given: from the host");
    assert.ok(!stdout.some((line) => /^write .*: ok$/.test(line)), stdout.join("; "));
    assert.equal(await Deno.readTextFile(`${hostPath}/given`), "from the host");
    const names = await Array.fromAsync(Deno.readDir(hostPath), ({ name }) => name);
    assert.deepEqual(names, ["given"]);
  });

  test("a container sees nothing of the host beyond that", async ({ bed, cri }) => {
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command,
      args: [`r:${bed.directory}/config.toml`, "r:/../../../../etc/hostname-of-the-host"],
    });
    for (const line of stdout) assert.doesNotMatch(line, /: (version|ok)/);
    assert.match(stdout[0] ?? "", /No such file|not permitted|Permission denied|Capabilities/);
  });
}
