/**
 * Cases about files: the root file system of each container, and directories of the host.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import type { Target } from "./target.ts";

/** Registers the cases. */
export function fileCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path } = target;
  const command = [path("fs")];
  singleFileCases(target, test);
  userCases(target, test);

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

/** Cases about single files: those that a pod brings, and those that are mounted by themselves. */
function singleFileCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  const command = [path("fs")];

  test("a container sees hostname, hosts and resolv.conf of its pod", async ({ cri }) => {
    await using pod = await cri.runPod({ handler, network: "pod" });
    const read = async (name: string) => {
      const args = [`r:/etc/${name}`];
      const { stdout } = await pod.runContainer({ name, image, command, args });
      return stdout.join("\n").trimEnd();
    };
    const podName = pod.config.metadata?.name ?? "";
    assert.equal(await read("hostname"), `read /etc/hostname: ${podName}`);
    assert.match(await read("hosts"), /^read \/etc\/hosts: .*127\.0\.0\.1\s+localhost/s);
    const resolver = await read("resolv.conf");
    assert.match(resolver, /nameserver 10\.96\.0\.10/);
    assert.match(resolver, /search default\.svc\.cluster\.local/);
    assert.match(resolver, /options ndots:5/);
  });

  test("a single file is mounted at a path that the image does not have", async ({ bed, cri }) => {
    const hostPath = await Deno.makeTempFile({ dir: bed.directory });
    await Deno.writeTextFile(hostPath, "color=blue");
    await Deno.chmod(hostPath, 0o644);
    await using pod = await cri.runPod({ handler });
    const containerPath = "/config/app/settings";
    const { stdout } = await pod.runContainer({
      image,
      command,
      args: [`r:${containerPath}`, `w:${containerPath}`, `r:${containerPath}`],
      mounts: [{ hostPath, containerPath, readonly: true }],
    });
    assert.equal(stdout[0], `read ${containerPath}: color=blue`);
    assert.equal(stdout.at(-1), `read ${containerPath}: color=blue`);
    assert.ok(!stdout.includes(`write ${containerPath}: ok`), stdout.join("; "));
    assert.equal(await Deno.readTextFile(hostPath), "color=blue");
  });

  test("a single file that may be written to is changed for the host too", async ({ bed, cri }) => {
    const hostPath = await Deno.makeTempFile({ dir: bed.directory });
    await Deno.writeTextFile(hostPath, "before");
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command,
      args: ["w:/some/where/note", "r:/some/where/note", "r:/note"],
      mounts: [{ hostPath, containerPath: "/some/where/note" }],
    });
    assert.deepEqual(stdout, [
      "write /some/where/note: ok",
      "read /some/where/note: written",
      "read /note: at the top",
    ]);
    assert.equal(await Deno.readTextFile(hostPath), "written");
  });
}

/** Cases about whom files belong to. */
function userCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  test("files belong to the user and group of the container, and are opened as such", async ({ bed, cri }) => {
    const hostPath = await Deno.makeTempDir({ dir: bed.directory });
    await Deno.chmod(hostPath, 0o777);
    await Deno.writeTextFile(`${hostPath}/private`, "of root", { mode: 0o600 });
    await Deno.mkdir(`${hostPath}/shared`);
    await Deno.chown(`${hostPath}/shared`, 0, 3_456);
    await Deno.chmod(`${hostPath}/shared`, 0o770);
    await using pod = await cri.runPod({ handler });
    const { stdout } = await pod.runContainer({
      image,
      command: [path("fs")],
      args: ["w:/data/mine", "w:/data/shared/ours", "r:/data/private"],
      mounts: [{ hostPath, containerPath: "/data" }],
      security: { user: 1_234, group: 2_345, groups: [3_456] },
    });
    assert.equal(stdout[0], "write /data/mine: ok");
    assert.equal(stdout[1], "write /data/shared/ours: ok");
    assert.match(stdout[2] ?? "", /^read \/data\/private: .*(Permission denied|not permitted)/);
    for (const name of ["mine", "shared/ours"]) {
      const { uid, gid } = await Deno.stat(`${hostPath}/${name}`);
      assert.deepEqual([uid, gid], [1_234, 2_345]);
    }
  });
}
