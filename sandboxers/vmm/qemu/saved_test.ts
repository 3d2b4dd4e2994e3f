import assert from "node:assert/strict";
import type { MachineSpec } from "../hypervisor.ts";
import { machineLayout } from "./layout.ts";
import { findSaved, readManifest, type SavedManifest, writeManifest } from "./saved.ts";

const SPEC: MachineSpec = {
  machine: "microvm",
  machineOptions: "",
  accelerator: "tcg",
  cpuModel: "",
  cpus: 1,
  cpusMax: 1,
  memoryBytes: 2 << 20,
  memoryMaxBytes: 2 << 20,
  hugepages: false,
  kernel: "/kernel",
  initrd: "/initrd",
  kernelParams: "",
  entropySource: "/dev/urandom",
  network: "none",
  interfaces: 0,
  diskSlots: 2,
  sharedTree: false,
  console: false,
};

const MANIFEST: SavedManifest = {
  version: "11.1.2",
  layout: machineLayout(),
  spec: SPEC,
  whole: true,
  balloon: true,
  slots: [{ slot: 0, path: "/images/a" }],
  plugged: [],
};

/** A saved machine, as far as files go. */
class Saved implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(changes: Partial<SavedManifest> = {}): Promise<Saved> {
    const saved = new Saved(await Deno.makeTempDir({ prefix: "quasaur-saved-" }));
    await Deno.writeTextFile(`${saved.directory}/state`, "state");
    await writeManifest(saved.directory, { ...MANIFEST, ...changes });
    return saved;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("a saved machine is found by its directory, with what it was made of", async () => {
  await using place = await Saved.make();
  const saved = await findSaved(place.directory, "11.1.2");
  assert.deepEqual(saved, { directory: place.directory, spec: SPEC });
  assert.deepEqual(await readManifest(saved, "11.1.2"), MANIFEST);
});

Deno.test("a saved machine that does not fit is refused, with the reason", async () => {
  const cases: readonly (readonly [Partial<SavedManifest>, RegExp])[] = [
    [{ version: "10.0.0" }, /QEMU 10\.0\.0 saved it, and this is 11\.1\.2$/],
    [{ layout: "other" }, /another version of this program saved it, with other devices$/],
    [{ whole: false }, /No such file/],
  ];
  for (const [changes, message] of cases) {
    await using place = await Saved.make(changes);
    await assert.rejects(findSaved(place.directory, "11.1.2"), {
      code: "FailedPrecondition",
      message,
    });
  }
});

Deno.test("a saved machine without state, or of another spec, is refused", async () => {
  await using place = await Saved.make();
  const other = { directory: place.directory, spec: { ...SPEC, cpus: 2 } };
  await assert.rejects(readManifest(other, "11.1.2"), { message: /made of something else$/ });
  await Deno.truncate(`${place.directory}/state`, 0);
  await assert.rejects(findSaved(place.directory, "11.1.2"), { message: /its state is empty$/ });
  await Deno.remove(`${place.directory}/machine.json`);
  await assert.rejects(findSaved(place.directory, "11.1.2"), { code: "FailedPrecondition" });
});
