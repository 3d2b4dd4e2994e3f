/**
 * Guests that lie to the host. Each is one that boots and has a first process of its own in the place
 * of the agent (guests/hostile_agent.ts). Its pod fails with a clear error and within a bound, the
 * sandboxer's memory stays bounded, and a pod beside it does not notice.
 *
 * @module
 */

import assert from "node:assert/strict";
import { buildAgent } from "../guest/agent/build.ts";
import { writeCpio } from "../guest/image/cpio.ts";
import { DEFAULT_INITRD } from "../guest/image/paths.ts";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import { type BedContext, bedTests } from "./support/bed_tests.ts";
import type { Container, Cri } from "./support/cri.ts";
import { REPOSITORY } from "./support/permissions.ts";
import { processStatus } from "./support/pod_processes.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";
import { expectAlive, expectNothingLeft, look, runVm, startSleep, vmmCri } from "./support/vmm.ts";

/** How much more memory the sandboxer may ever have taken because of a guest, in KiB. */
const MORE_KIB_MAX = 160 * 1024;
/** How much a guest may bring into the log, in bytes. */
const LOG_BYTES_MAX = 4 << 20;

/** What a guest tells, and how its pod fails. */
const LIES: readonly (readonly [string, RegExp])[] = [
  ["noise", /bytes came in the place of an answer/],
  ["a frame that says it is longer than any", /broke the protocol: bytes came that are no frame/],
  ["a message without end", /broke the protocol: .*message/],
  ["a million streams", /broke the protocol: too many frames came that were of no use/],
  ["ends of processes that nobody started", /broke the protocol: too many events came/],
  ["notes for the log without end", /broke the protocol: too many events came/],
];

const directory = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "quasaur-hostile-" });
const initrd = `${directory}/initrd.cpio`;
const program = sandboxerProgram("vmm");
const { read } = program.permissions;
assert.ok(Array.isArray(read));

/** Puts an initrd in place for the next machine that boots. */
async function useInitrd(bytes: Uint8Array): Promise<void> {
  await Deno.writeFile(`${initrd}.new`, bytes, { mode: 0o644 });
  await Deno.rename(`${initrd}.new`, initrd);
}

let liar: Uint8Array = new Uint8Array(0);

/** Puts the initrd of a guest in place that tells a lie, or says nothing. */
async function useLiar(lie: string | undefined): Promise<void> {
  const files = [{ kind: "file" as const, path: "init", mode: 0o755, bytes: liar }];
  const lies = lie === undefined
    ? []
    : [{ kind: "file" as const, path: "lie", mode: 0o644, bytes: new TextEncoder().encode(lie) }];
  await useInitrd(
    writeCpio([{ kind: "directory", path: "dev", mode: 0o755 }, ...files, ...lies]),
  );
}

/** A container of an honest guest, which is there all the time. */
let honest: { readonly cri: Cri; readonly container: Container } | undefined;

const test = bedTests({
  kinds: [{
    ...program,
    permissions: { ...program.permissions, read: [...read, directory] },
    config: `[template]
enable = false
[hypervisor]
initrd_path = "${initrd}"
`,
  }],
}, async (bed) => {
  await Deno.chmod(directory, 0o711);
  await useInitrd(await Deno.readFile(DEFAULT_INITRD));
  const main = `${REPOSITORY}/tests/guests/hostile_agent.ts`;
  liar = await Deno.readFile(await buildAgent({ outDir: directory, main }));
  await vmmTarget.importImages(bed);
  const cri = vmmCri(bed);
  honest = { cri, container: await startSleep(await runVm(cri)) };
});

Deno.test.afterAll(async () => {
  honest?.cri[Symbol.dispose]();
  await Deno.remove(directory, { recursive: true });
});

/** The most memory that the sandboxer has ever had, in KiB. */
async function peakKib({ bed }: BedContext): Promise<number> {
  const status = await processStatus(bed.sandboxer("vmm").process.pid);
  return Number(status.get("VmHWM")?.replace(" kB", ""));
}

/** Runs a pod that has to fail, and expects that nothing else comes of it. */
async function expectRefused(context: BedContext, error: RegExp): Promise<void> {
  const { bed } = context;
  assert.ok(honest !== undefined);
  const { cri, container } = honest;
  const before = await look(bed);
  const peak = await peakKib(context);
  const log = (await bed.sandboxer("vmm").process.log()).length;
  await assert.rejects(runVm(cri), error);
  await expectAlive(container);
  await expectNothingLeft(bed, before);
  const moreKib = await peakKib(context) - peak;
  assert.ok(moreKib < MORE_KIB_MAX, `the sandboxer took ${moreKib} KiB`);
  const logged = (await bed.sandboxer("vmm").process.log()).length - log;
  assert.ok(logged < LOG_BYTES_MAX, `the log grew by ${logged} characters`);
}

for (const [lie, error] of LIES) {
  test(`a guest that tells ${lie} fails its pod, and nobody else notices`, async (context) => {
    await useLiar(lie);
    await expectRefused(context, error);
  });
}

test("a guest whose first process ends fails its pod at once, with the kernel's end", async (context) => {
  const bytes = new TextEncoder().encode("not a program\n");
  await useInitrd(writeCpio([{ kind: "file", path: "init", mode: 0o755, bytes }]));
  await expectRefused(context, /the guest has ended \(panic\)/);
});

test("an initrd that is missing or does not fit is named, before anything is started", async (context) => {
  await useInitrd(new Uint8Array(4097));
  await expectRefused(context, /initrd\.cpio": 4097 bytes long: expected a multiple of 4096/);
  await useInitrd(writeCpio([{ kind: "directory", path: "dev", mode: 0o755 }]));
  await expectRefused(context, /initrd\.cpio": no \/init in it.*\(hypervisor\.initrd_path, /);
  await Deno.remove(initrd);
  await expectRefused(context, /the guest's initrd ".*initrd\.cpio": not found: build it with/);
});

test("a guest that never answers fails its pod when the configured time is over", async (context) => {
  const { bed } = context;
  const { paths } = bed.sandboxer("vmm");
  const config = await Deno.readTextFile(paths.configPath);
  await Deno.writeTextFile(
    paths.configPath,
    config.replace("[hypervisor]", "[hypervisor]\nready_timeout_in_s = 2"),
  );
  await bed.sandboxer("vmm").restart();
  assert.ok(honest !== undefined);
  const { container } = honest;
  await waitFor("the sandboxer to answer", async () => {
    await expectAlive(container);
    return true;
  });
  await useLiar(undefined);
  await expectRefused(context, /not ready within 2 s/);
});
