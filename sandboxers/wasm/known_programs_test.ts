/**
 * Programs that are not read again, on overlays as containers have them. Mounting takes root.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ContainerSpec, ProcessSpec } from "../lifecycle/spec.ts";
import type { EngineModule } from "./engine.ts";
import { containerSpec, engine, guestBytes, system } from "./fixture.ts";
import { KnownPrograms } from "./known_programs.ts";
import { loadProgram, openRootfs } from "./rootfs.ts";

/** A layer with `/app.wasm`, and any number of overlays over it. */
class Overlays implements AsyncDisposable {
  readonly layer: string;
  readonly #base: string;
  readonly #mounted: string[] = [];

  private constructor(base: string) {
    this.#base = base;
    this.layer = `${base}/layer`;
  }

  static async make(): Promise<Overlays> {
    const overlays = new Overlays(await Deno.makeTempDir({ prefix: "quasaur-known-" }));
    await Deno.mkdir(overlays.layer);
    await Deno.writeFile(`${overlays.layer}/app.wasm`, await guestBytes("hello"));
    return overlays;
  }

  /** Mounts one more; the container it is for. */
  async container(): Promise<ContainerSpec> {
    const place = `${this.#base}/${this.#mounted.length}`;
    const target = `${place}/root`;
    for (const name of ["", "/upper", "/work", "/root"]) await Deno.mkdir(`${place}${name}`);
    const options = [
      `lowerdir=${this.layer}`,
      `upperdir=${place}/upper`,
      `workdir=${place}/work`,
    ];
    await command("mount", "-t", "overlay", "overlay", "-o", options.join(","), target);
    this.#mounted.push(target);
    const mounts = [{ type: "overlay", source: "overlay", options }];
    return { ...containerSpec(target, ["/app.wasm"]), rootfs: { kind: "mounts", target, mounts } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const target of this.#mounted) await command("umount", target);
    await Deno.remove(this.#base, { recursive: true });
  }
}

async function command(name: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(name, { args }).output();
  if (!success) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
}

/** Loads the program of a container; tells whether its file was read. */
async function load(
  programs: KnownPrograms,
  container: ContainerSpec,
  process: ProcessSpec = container.process,
): Promise<{ readonly digest: string; readonly read: boolean }> {
  assert.ok(container.rootfs.kind === "mounts");
  const rootfs = openRootfs(system, container.rootfs.target);
  let read = false;
  try {
    const shortcut = programs.of(container, rootfs);
    using module: EngineModule = await loadProgram(system, rootfs, process, (bytes) => {
      read = true;
      return engine.load(bytes);
    }, shortcut);
    return { digest: module.digest, read };
  } finally {
    system.close(rootfs);
  }
}

/** A clock that is ahead, so that a file that was just written is an old one. */
const later = () => Date.now() + 10_000;

Deno.test("the second container of an image does not read its module again", async () => {
  await using overlays = await Overlays.make();
  const programs = new KnownPrograms(engine, system, later);
  const first = await load(programs, await overlays.container());
  const second = await load(programs, await overlays.container());
  assert.deepEqual([first.read, second.read], [true, false]);
  assert.equal(second.digest, first.digest);
  assert.equal(programs.size, 1);
});

Deno.test("a module that the container has written to is read again, and only by it", async () => {
  await using overlays = await Overlays.make();
  let now = Date.now() + 10_000;
  const programs = new KnownPrograms(engine, system, () => now);
  const [own, other] = [await overlays.container(), await overlays.container()];
  const first = await load(programs, own);
  await load(programs, other);
  assert.ok(own.rootfs.kind === "mounts");
  // The container was there before it wrote: its file is newer than it.
  now = Date.now() - 10_000;
  const restarted = { ...own };
  await Deno.writeFile(`${own.rootfs.target}/app.wasm`, await guestBytes("args"));
  for (let i = 0; i < 2; i++) {
    const changed = await load(programs, restarted);
    assert.equal(changed.read, true);
    assert.notEqual(changed.digest, first.digest);
  }
  assert.deepEqual(await load(programs, other), { digest: first.digest, read: false });
});

Deno.test("a module that was changed just before the container was made is read each time", async () => {
  await using overlays = await Overlays.make();
  const programs = new KnownPrograms(engine, system, () => Date.now() - 10_000);
  for (let i = 0; i < 2; i++) {
    assert.equal((await load(programs, await overlays.container())).read, true);
  }
  assert.equal(programs.size, 0);
});

Deno.test("the same file in other layers is another one", async () => {
  await using overlays = await Overlays.make();
  const programs = new KnownPrograms(engine, system, later);
  const container = await overlays.container();
  await load(programs, container);
  assert.ok(container.rootfs.kind === "mounts");
  const mounts = [{ type: "overlay", source: "overlay", options: ["lowerdir=/elsewhere"] }];
  const elsewhere: ContainerSpec = { ...container, rootfs: { ...container.rootfs, mounts } };
  assert.equal((await load(programs, elsewhere)).read, true);
});

Deno.test("a file that is mounted over the image's is read each time", async () => {
  await using overlays = await Overlays.make();
  const programs = new KnownPrograms(engine, system, later);
  const container = await overlays.container();
  assert.ok(container.rootfs.kind === "mounts");
  const target = `${container.rootfs.target}/app.wasm`;
  await command("mount", "--bind", `${overlays.layer}/app.wasm`, target);
  try {
    for (let i = 0; i < 2; i++) assert.equal((await load(programs, container)).read, true);
  } finally {
    await command("umount", target);
  }
});

Deno.test("a module that is no longer in memory is read again", async () => {
  await using overlays = await Overlays.make();
  const forgetful = Object.assign(Object.create(engine), {
    loadKnown: () => Promise.resolve(undefined),
  });
  const programs = new KnownPrograms(forgetful, system, later);
  for (let i = 0; i < 2; i++) {
    assert.equal((await load(programs, await overlays.container())).read, true);
  }
});

Deno.test("root file systems that are no overlay have no shortcut", () => {
  const programs = new KnownPrograms(engine, system);
  assert.equal(programs.of(containerSpec("/", ["/app.wasm"]), 0), undefined);
});
