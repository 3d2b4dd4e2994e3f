/**
 * Faults of single pods: their VMM dies, their guest panics or says nothing any more, what they are
 * made of is damaged or missing, or the disk is full. Pods beside them must not notice, and nothing
 * may be left.
 *
 * @module
 */

import assert from "node:assert/strict";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import type { Cri, Pod } from "./support/cri.ts";
import { run } from "./support/command.ts";
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
let silent: { readonly cri: Cri; readonly pod: Pod } | undefined;

const test = bedTests({ ...vmmTarget.bed, runInMemory: true }, async (bed) => {
  await vmmTarget.importImages(bed);
  const cri = vmmCri(bed);
  await expectHello(cri);
  const pod = await runVm(cri);
  silent = { cri, pod };
  await startSleep(pod);
  Deno.kill(await vmmOf(pod), "SIGSTOP");
});

Deno.test.afterAll(() => silent?.cri[Symbol.dispose]());

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

/** The directory of the one template that usual pods are cloned from. */
async function usualTemplate(bed: Bed): Promise<string> {
  return await waitFor("a template", async () => {
    const directory = `${stateOf(bed)}/templates`;
    const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
    const [found] = names.filter((name) => /^[0-9a-f]/.test(name));
    return found === undefined ? undefined : `${directory}/${found}`;
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

/** Replaces a text in bytes by one of the same length. */
function replaceText(bytes: Uint8Array, pattern: RegExp, replacement: string): void {
  const text = new TextDecoder().decode(bytes);
  const changed = text.replace(pattern, replacement);
  assert.notEqual(changed, text);
  bytes.set(new TextEncoder().encode(changed));
}

const DAMAGES: readonly (readonly [string, (directory: string) => Promise<void>])[] = [
  [
    "whose state is damaged",
    (directory) => change(`${directory}/state`, (bytes) => bytes.fill(0x5a, 0, bytes.length / 2)),
  ],
  [
    "of another QEMU",
    (directory) =>
      change(
        `${directory}/machine.json`,
        (bytes) => replaceText(bytes, /("version":"\d+)\./, "$1,"),
      ),
  ],
  ["whose memory is gone", (directory) => Deno.remove(`${directory}/memory`)],
];

for (const [what, damage] of DAMAGES) {
  test(`a template ${what} fails no pod, and is made anew`, async ({ bed }) => {
    using cri = vmmCri(bed);
    const template = await usualTemplate(bed);
    const before = await look(bed);
    await damage(template);
    await expectHello(cri);
    await waitFor("the damaged template to be gone", async () => {
      return await Deno.stat(template).then(() => false, () => true);
    });
    await expectNothingLeft(bed, before);
    await waitFor("a new template", async () => {
      await expectHello(cri);
      return await usualTemplate(bed) !== template;
    }, { timeoutMs: 60_000 });
  });
}

test("a full disk fails pods that need room, with a clear error, and no others", async ({ bed }) => {
  using cri = vmmCri(bed);
  await usualTemplate(bed);
  const filler = `${bed.sandboxer("vmm").paths.runDirectory}/filler`;
  await using other = await runVm(cri);
  const spared = await startSleep(other);
  const before = await look(bed);
  try {
    await run(["dd", "if=/dev/zero", `of=${filler}`, "bs=1M"], { check: false });
    await assert.rejects(
      runVm(cri, { annotations: { "quasaur.dev/share-fs": "virtiofs" } }),
      /No space left on device|no space/i,
    );
    await expectAlive(spared);
  } finally {
    await Deno.remove(filler);
  }
  await expectNothingLeft(bed, before);
  await expectHello(cri);
  await usualTemplate(bed);
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
});
