/**
 * Faults of single pods: their VMM dies, their guest panics or says nothing any more, what they are
 * made of is damaged or missing, the disk is full, or callers give up at any moment. Pods beside them
 * must not notice, and nothing may be left.
 *
 * @module
 */

import assert from "node:assert/strict";
import { statfs } from "node:fs/promises";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import type { Cri, Pod } from "./support/cri.ts";
import { run } from "./support/command.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";
import {
  expectAlive,
  expectHello,
  expectNothingLeft,
  expectNotReady,
  look,
  runVm,
  startSleep,
  vmmCri,
  vmmOf,
} from "./support/vmm.ts";
import { waitFor } from "./support/wait.ts";

const { image } = vmmTarget;

/** A pod whose VMM stands still since before the first test: that takes a while to be noticed. */
let silent: { readonly cri: Cri; readonly pod: Pod; readonly vmm: number } | undefined;

// Callers who give up between two calls leave a sandbox that nobody starts.
const vmm = { ...sandboxerProgram("vmm"), flags: ["--unstarted-max=5"] };

const test = bedTests({ ...vmmTarget.bed, kinds: [vmm], runInMemory: true }, async (bed) => {
  await vmmTarget.importImages(bed);
  const cri = vmmCri(bed);
  await expectHello(cri);
  const pod = await runVm(cri);
  await startSleep(pod);
  silent = { cri, pod, vmm: await vmmOf(pod) };
  Deno.kill(silent.vmm, "SIGSTOP");
});

Deno.test.afterAll(async () => {
  if (silent === undefined) return;
  using cri = silent.cri;
  // Where its test did not run: what stands still cannot be stopped at once.
  await run(["kill", "-9", `${silent.vmm}`], { check: false });
  await expectNotReady(silent.pod);
  await cri.removePod(silent.pod.id);
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The state directory of the sandboxer. */
function stateOf(bed: Bed): string {
  return bed.sandboxer("vmm").paths.stateDirectory;
}

test("a VMM that is killed takes its pod along, and nothing else", async ({ bed }) => {
  using cri = vmmCri(bed);
  await using other = await runVm(cri);
  const spared = await startSleep(other);
  const before = await look(bed);
  {
    await using pod = await runVm(cri);
    const container = await startSleep(pod);
    Deno.kill(await vmmOf(pod), "SIGKILL");
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
    await expectAlive(spared);
  }
  await expectNothingLeft(bed, before);
});

test("a guest whose kernel panics takes its pod along, and the log says so", async ({ bed }) => {
  using cri = vmmCri(bed);
  const before = await look(bed);
  {
    await using pod = await runVm(cri, { privileged: true });
    const container = await pod.startContainer({
      image,
      command: ["/bin/sh", "-c", "echo begin; sleep 0.5; echo c >/proc/sysrq-trigger"],
      security: { privileged: true },
    });
    await container.printed("begin");
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
  }
  assert.match(await bed.sandboxer("vmm").process.log(), /the guest's kernel panicked/);
  await expectNothingLeft(bed, before);
});

test("pods that cannot be had are refused with what is wrong, and leave nothing", async ({ bed }) => {
  using cri = vmmCri(bed);
  const before = await look(bed);
  const annotations = { "quasaur.dev/memory-in-mb": "64" };
  await assert.rejects(runVm(cri, { annotations }), /a guest needs at least 96 MiB/);
  await assert.rejects(
    runVm(cri, { annotations: { "quasaur.dev/share-fs": "9p" } }),
    /quasaur\.dev\/share-fs/,
  );
  await assert.rejects(runVm(cri, { network: "host" }), /cannot use the host's network/);
  await expectNothingLeft(bed, before);
});

test("a container whose root file system is not a Linux one is refused", async ({ bed }) => {
  using cri = vmmCri(bed);
  const windows = await bed.containerd.importImage({
    reference: "quasaur.test/windows:1",
    files: ["Files/a", "Hives/b", "UtilityVM/c"].map((path) => ({
      kind: "file",
      path,
      data: new Uint8Array(1),
    })),
    entrypoint: ["/Files/a"],
  });
  const before = await look(bed);
  {
    await using pod = await runVm(cri);
    const container = await startSleep(pod);
    await assert.rejects(
      pod.startContainer({ name: "windows", image: windows }),
      /it is that of a Windows image: expected one for Linux/,
    );
    await assert.rejects(
      pod.startContainer({ name: "nothing", image, command: ["/no/such/program"] }),
      /no\/such\/program/,
    );
    await expectAlive(container);
  }
  await expectNothingLeft(bed, before);
});

/** The directories of all templates that are finished. */
async function templatesOf(bed: Bed): Promise<string[]> {
  const directory = `${stateOf(bed)}/templates`;
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
  return names.filter((name) => /^[0-9a-f]/.test(name)).map((name) => `${directory}/${name}`)
    .sort();
}

/** The template of usual pods, where no others were asked for; pods that come have it made. */
async function usualTemplate(bed: Bed, cri: Cri): Promise<string> {
  return await waitFor("a template", async () => {
    const [found] = await templatesOf(bed);
    if (found === undefined) await expectHello(cri);
    return found;
  }, { timeoutMs: 60_000 });
}

/** Changes a file in such a way that only who reads it can notice. */
async function change(path: string, edit: (bytes: Uint8Array) => void): Promise<void> {
  const { mtime } = await Deno.stat(path);
  const bytes = await Deno.readFile(path);
  edit(bytes);
  await Deno.chmod(path, 0o644);
  await Deno.writeFile(path, bytes);
  await Deno.utime(path, mtime ?? new Date(), mtime ?? new Date());
}

const DAMAGES: readonly (readonly [string, (directory: string) => Promise<void>])[] = [
  [
    "whose state is damaged",
    (directory) => change(`${directory}/state`, (bytes) => bytes.fill(0x5a, 0, bytes.length / 2)),
  ],
  ["whose memory is gone", (directory) => Deno.remove(`${directory}/memory`)],
];

for (const [what, damage] of DAMAGES) {
  test(`a template ${what} fails no pod, and is made anew`, async ({ bed }) => {
    using cri = vmmCri(bed);
    const template = await usualTemplate(bed, cri);
    const before = await look(bed);
    await damage(template);
    await expectHello(cri);
    await waitFor("the damaged template to be gone", async () => {
      return await Deno.stat(template).then(() => false, () => true);
    });
    await expectNothingLeft(bed, before);
    assert.notEqual(await usualTemplate(bed, cri), template);
  });
}

test("a full disk fails pods that need room, with a clear error, and no others", async ({ bed }) => {
  using cri = vmmCri(bed);
  const sharing = { annotations: { "quasaur.dev/share-fs": "virtiofs" } };
  await expectHello(cri, sharing);
  const templates = await templatesOf(bed);
  const directory = bed.sandboxer("vmm").paths.runDirectory;
  const before = await look(bed);
  {
    await using other = await runVm(cri);
    const spared = await startSleep(other);
    try {
      // A clone with a shared tree needs a copy of the template's memory.
      await fill(`${directory}/filler`, directory, 8);
      await expectHello(cri, sharing);
      await fill(`${directory}/rest`, directory, 0);
      await assert.rejects(runVm(cri), /no space/i);
    } finally {
      await Deno.remove(`${directory}/filler`);
      await Deno.remove(`${directory}/rest`);
    }
    // Not before: where the template's file is in memory, a guest's first use of a page adds to it.
    await expectAlive(spared);
  }
  await expectNothingLeft(bed, before);
  await expectHello(cri, sharing);
  const log = await bed.sandboxer("vmm").process.log();
  assert.match(log, /a template cannot be cloned.*no space/i);
  assert.deepEqual(await templatesOf(bed), templates, "no template is to blame");
});

/** Fills a file system with a file, all but some MiB. */
async function fill(path: string, directory: string, leftMib: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const mib = Math.floor(bavail * bsize / 2 ** 20) - leftMib;
  await run(["fallocate", "-l", `${mib * 2 ** 20}`, path]);
  if (leftMib > 0) return;
  await run(["dd", "if=/dev/zero", `of=${path}`, "bs=4k", "oflag=append", "conv=notrunc"], {
    check: false,
  });
}

for (const share of ["auto", "virtiofs"]) {
  test(`callers who give up while a pod starts (share-fs ${share}) leave nothing`, async ({ bed }) => {
    using cri = vmmCri(bed);
    const annotations = { "quasaur.dev/share-fs": share };
    await expectHello(cri, { annotations });
    const before = await look(bed);
    // Anywhere between the first call and a pod that is ready.
    const outcomes = await Promise.all([30, 80, 150, 250, 400].map(async (timeoutMs) => {
      const pod = await runVm(cri, { annotations, timeoutMs }).catch(() => undefined);
      await pod?.[Symbol.asyncDispose]();
      return pod === undefined;
    }));
    assert.ok(outcomes.includes(true), "nobody gave up");
    await expectNothingLeft(bed, before);
  });
}

test("pods that are stopped while a container of theirs is made leave nothing", async ({ bed }) => {
  using cri = vmmCri(bed);
  const before = await look(bed);
  await Promise.all([0, 150, 400].map(async (delayMs) => {
    await using pod = await runVm(cri);
    const container = await pod.createContainer({ image, command: [vmmTarget.path("sleep")] });
    const starting = container.start().catch(() => undefined);
    await pause(delayMs);
    await pod.stop();
    await starting;
    // containerd may hear of the end a moment after it has stopped the pod.
    await waitFor("the container's end", async () => await container.state() !== "RUNNING");
  }));
  await expectNothingLeft(bed, before);
});

test("a container that is removed while execs in it are starting leaves nothing", async ({ bed }) => {
  using cri = vmmCri(bed);
  await using pod = await runVm(cri);
  await startSleep(pod, "other");
  const before = await look(bed);
  for (const delayMs of [0, 40, 120]) {
    const container = await startSleep(pod, "main");
    const execs = Array.from({ length: 4 }, () => container.exec(["/bin/sleep", "20"]));
    const outcomes = Promise.allSettled(execs);
    await pause(delayMs);
    await container.stop(0);
    await container.remove();
    for (const outcome of await outcomes) {
      if (outcome.status === "fulfilled") assert.notEqual(outcome.value.exitCode, 0);
    }
  }
  await expectNothingLeft(bed, before);
  await expectAlive(await startSleep(pod, "main"));
});

test("a guest that said nothing since before these tests has been noticed, and its pod stopped", async ({ bed }) => {
  assert.ok(silent !== undefined);
  const { cri, pod } = silent;
  await expectNotReady(pod);
  assert.match(await bed.sandboxer("vmm").process.log(), /agent does not answer: silent for more/);
  const [id = ""] = await cri.containerIds(pod.id);
  assert.notEqual(id, "");
  await pod[Symbol.asyncDispose]();
  await expectHello(cri);
  cri[Symbol.dispose]();
  silent = undefined;
});
