import assert from "node:assert/strict";
import { run } from "./command.ts";
import { busyboxImage } from "./oci_image.ts";
import { Bed } from "./bed.ts";
import { mountsBelow } from "./mount_table.ts";
import { REPOSITORY } from "./permissions.ts";

/** Whether a path is there. */
async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

/** The command lines of all processes that name a directory. */
async function processesOf(directory: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    const text = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (/^\d+$/.test(name) && text.includes(directory)) found.push(text.replaceAll("\0", " "));
  }
  return found;
}

/** Expects nothing of a bed to be left. */
async function expectGone(directory: string, bridge: string): Promise<void> {
  assert.equal(await exists(directory), false);
  assert.deepEqual(await mountsBelow(directory), []);
  assert.deepEqual(await processesOf(directory), []);
  assert.equal((await run(["ip", "link", "show", bridge], { check: false })).status, 1);
}

Deno.test("a bed takes away everything at its end, running pods included", async () => {
  const bed = await Bed.start({ runc: true });
  const { directory, containerd: { network } } = bed;
  {
    await using _ = bed;
    const image = await bed.containerd.importImage(await busyboxImage("quasaur.test/box:1"));
    using cri = bed.cri();
    const pod = await cri.runPod({ handler: "runc", network: "pod" });
    await pod.startContainer({ image, args: ["-c", "sleep 1000"] });
    assert.ok((await mountsBelow(directory)).length > 0);
  }
  await expectGone(directory, network.name);
});

Deno.test("two beds do not disturb each other", async () => {
  await using first = await Bed.start({ runc: true });
  await using second = await Bed.start({ runc: true });
  using firstCri = first.cri();
  using secondCri = second.cri();
  await using _pod = await firstCri.runPod({ handler: "runc", network: "pod" });
  assert.equal((await firstCri.podIds()).length, 1);
  assert.equal((await secondCri.podIds()).length, 0);
});

Deno.test("a bed whose process was killed is taken away by the next", async () => {
  const code = `
    import { Bed } from "${REPOSITORY}/tests/support/bed.ts";
    const bed = await Bed.start({ runc: true });
    using cri = bed.cri();
    await cri.runPod({ handler: "runc", network: "pod" });
    console.log(JSON.stringify([bed.directory, bed.containerd.network.name]));
    Deno.kill(Deno.pid, "SIGKILL");
  `;
  const config = `--config=${REPOSITORY}/deno.json`;
  const { stdout } = await run([Deno.execPath(), "eval", config, code], { check: false });
  const [directory, bridge]: [string, string] = JSON.parse(stdout);
  assert.ok((await processesOf(directory)).length > 0, "its containerd is still there");
  await using _next = await Bed.start();
  await expectGone(directory, bridge);
});
