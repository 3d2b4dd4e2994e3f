import assert from "node:assert/strict";
import type { SavedMachine } from "../hypervisor.ts";
import { machineLayout } from "./layout.ts";
import { readManifest, savedFile, type SavedManifest, writeManifest } from "./saved.ts";
import { probeSpec } from "./testing/fixture.ts";

const SPEC = probeSpec("/initrd");

/** Runs a test with a saved machine that is whole. */
async function withSaved(
  test: (saved: SavedMachine) => Promise<void>,
  changes: Partial<SavedManifest> = {},
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-saved-" });
  try {
    await Deno.writeTextFile(savedFile(directory, "state"), "state");
    await Deno.writeTextFile(savedFile(directory, "memory"), "");
    await Deno.truncate(savedFile(directory, "memory"), SPEC.memoryBytes);
    await writeManifest(directory, {
      ...{ version: "11.1.2", layout: machineLayout(), spec: SPEC, whole: false, balloon: false },
      ...{ slots: [], plugged: [], ...changes },
    });
    await test({ directory, spec: SPEC });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a saved machine that is whole is read", async () => {
  await withSaved(async (saved) => {
    assert.deepEqual((await readManifest(saved, "11.1.2")).spec.kernel, SPEC.kernel);
  });
});

Deno.test("a machine that another QEMU saved is not loaded", async () => {
  await withSaved(async (saved) => {
    await assert.rejects(readManifest(saved, "11.2.0"), {
      code: "FailedPrecondition",
      message: /QEMU 11\.1\.2 saved it, and this is 11\.2\.0/,
    });
  });
});

Deno.test("a saved machine that was made of something else is not loaded", async () => {
  await withSaved(async ({ directory }) => {
    const spec = { ...SPEC, cpus: 2 };
    await assert.rejects(readManifest({ directory, spec }, "11.1.2"), /made of something else/);
  });
});

const DAMAGES: readonly (readonly [string, RegExp, (directory: string) => Promise<void>])[] = [
  [
    "whose manifest is gone",
    /No such file/,
    (directory) => Deno.remove(savedFile(directory, "manifest")),
  ],
  ["whose manifest is cut off", /JSON/, async (directory) => {
    const path = savedFile(directory, "manifest");
    await Deno.chmod(path, 0o600);
    await Deno.truncate(path, 100);
  }],
  [
    "whose state is empty",
    /its state is empty/,
    (directory) => Deno.truncate(savedFile(directory, "state"), 0),
  ],
  [
    "whose memory is cut off",
    /its memory has 4096 bytes/,
    (directory) => Deno.truncate(savedFile(directory, "memory"), 4096),
  ],
];

for (const [what, message, damage] of DAMAGES) {
  Deno.test(`a saved machine ${what} is not loaded`, async () => {
    await withSaved(async (saved) => {
      await damage(saved.directory);
      await assert.rejects(readManifest(saved, "11.1.2"), { code: "FailedPrecondition", message });
    });
  });
}
