import assert from "node:assert/strict";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { buildGuest } from "./build.ts";
import { checkGuestImage } from "./check.ts";
import { type CpioEntry, readCpio } from "./cpio.ts";
import { isGuestStale, readManifest, sourcesDigest } from "./manifest.ts";
import { GUEST_DIRECTORY, INITRD_FILE, KERNEL_FILE, MANIFEST_FILE } from "./paths.ts";

/** Runs a test with a new directory in which the packages of the installed guest are already. */
async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-guest-" });
  try {
    await Deno.mkdir(`${directory}/packages`);
    const packages = `${GUEST_DIRECTORY}/packages`;
    for await (const { name, isFile } of Deno.readDir(packages)) {
      if (isFile) await Deno.copyFile(`${packages}/${name}`, `${directory}/packages/${name}`);
    }
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** The entries of an initrd by path. */
async function entriesOf(initrd: string): Promise<Map<string, CpioEntry>> {
  return new Map(readCpio(await Deno.readFile(initrd)).map((entry) => [entry.path, entry]));
}

Deno.test("a guest that is built again is the same to the bit, and has what it needs", () =>
  withDirectory(async (directory) => {
    const built = await buildGuest({ directory });
    await checkGuestImage(`${directory}/${KERNEL_FILE}`, `${directory}/${INITRD_FILE}`);
    const installed = await readManifest(GUEST_DIRECTORY);
    // Whoever works on the sources while this runs has another one installed.
    const isSame = installed?.sources === built.sources && !installed.console;
    if (isSame) assert.deepEqual(installed, built);
    const entries = await entriesOf(`${directory}/${INITRD_FILE}`);
    for (const path of ["init", "usr/bin/crun", "lib64/ld-linux-x86-64.so.2"]) {
      assert.equal(entries.get(path)?.kind, "file", path);
    }
    assert.ok(entries.has("usr/lib/x86_64-linux-gnu/libc.so.6"));
    const modules = [...entries.keys()].filter((path) => path.startsWith("modules/"));
    assert.deepEqual(
      modules,
      built.modules.map((name, index) => `modules/${index + 10}-${name}.ko`),
    );
    assert.ok(built.modules.includes("overlay"));
    assert.ok([...entries.keys()].some((path) => /^modules-vsock\/\d+-vsock\.ko$/.test(path)));
    assert.ok(!entries.has("usr/bin/sh"), "there is no shell unless one is asked for");
    assert.deepEqual(
      (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort(),
      [INITRD_FILE, MANIFEST_FILE, "packages", KERNEL_FILE],
    );
  }));

Deno.test("a guest is stale when something of it or of its sources has changed", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-guest-" });
  try {
    assert.ok(await isGuestStale(directory, REPOSITORY), "nothing is there");
    await Deno.writeTextFile(`${directory}/${KERNEL_FILE}`, "kernel");
    const manifest = {
      format: 1,
      console: false,
      sources: await sourcesDigest(REPOSITORY),
      files: [{ name: KERNEL_FILE, bytes: 6, sha256: "" }],
    };
    const write = (value: unknown) =>
      Deno.writeTextFile(`${directory}/${MANIFEST_FILE}`, JSON.stringify(value));
    await write(manifest);
    assert.ok(!await isGuestStale(directory, REPOSITORY));
    await write({ ...manifest, sources: "other" });
    assert.ok(await isGuestStale(directory, REPOSITORY), "the sources are others");
    await write({ ...manifest, format: 2 });
    assert.ok(await isGuestStale(directory, REPOSITORY), "the manifest is another's");
    await write(manifest);
    await Deno.truncate(`${directory}/${KERNEL_FILE}`, 3);
    assert.ok(await isGuestStale(directory, REPOSITORY), "the kernel is cut off");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a directory that cannot be written to is told before anything is done", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-guest-" });
  try {
    await Deno.writeTextFile(`${directory}/file`, "");
    await assert.rejects(buildGuest({ directory: `${directory}/file/guest` }), /file\/guest/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
