/**
 * Installing below a prefix: nothing of others is touched, what was put in place goes again, and the
 * same command twice does nothing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { cannotWrite } from "../containerd/files.ts";
import { install, planInstall, uninstall } from "./install.ts";
import { installedItems, SANDBOXER_KINDS, type SandboxerKind } from "./layout.ts";
import { readManifest } from "./manifest.ts";

/** A root directory, and a bundle of small files. */
class World implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(): Promise<World> {
    const world = new World(await Deno.makeTempDir({ prefix: "quasaur-install-" }));
    await Deno.mkdir(world.prefix);
    await world.bundle("1");
    return world;
  }

  get prefix(): string {
    return `${this.directory}/root`;
  }

  get bundleDirectory(): string {
    return `${this.directory}/bundle`;
  }

  /** Makes the bundle of a version. */
  async bundle(version: string): Promise<void> {
    for (const item of installedItems(SANDBOXER_KINDS)) {
      if (item.type !== "file") continue;
      const path = `${this.bundleDirectory}/${item.source}`;
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      const text = item.source === "deno.json"
        ? JSON.stringify({ version })
        : item.source + version;
      await Deno.writeTextFile(path, text);
    }
  }

  async install(kinds: readonly SandboxerKind[] = SANDBOXER_KINDS, force = false) {
    const { bundleDirectory: bundle, prefix } = this;
    const plan = await planInstall({ bundle, prefix, kinds, force });
    const kept = await install(plan, false);
    return { actions: plan.placements.map(({ action }) => action), kept };
  }

  async uninstall(): Promise<string[]> {
    const manifest = await readManifest(this.prefix);
    assert.ok(manifest !== undefined);
    return await uninstall(manifest, this.prefix);
  }

  /** Everything that is there, with what it holds. */
  async files(below = ""): Promise<string[]> {
    const found: string[] = [];
    for await (const { name, isDirectory } of Deno.readDir(`${this.prefix}${below}`)) {
      found.push(`${below}/${name}`);
      if (isDirectory) found.push(...await this.files(`${below}/${name}`));
    }
    return found.sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("what is installed is complete, installing it again does nothing, and all of it goes", async () => {
  await using world = await World.make();
  await Deno.mkdir(`${world.prefix}/usr/bin`, { recursive: true });
  const before = await world.files();
  const { actions } = await world.install();
  assert.ok(actions.every((action) => action === "put"));
  const files = await world.files();
  for (const { path } of installedItems(SANDBOXER_KINDS)) assert.ok(files.includes(path), path);
  const mode = (await Deno.stat(`${world.prefix}/usr/lib/quasaur/deno`)).mode ?? 0;
  assert.equal(mode & 0o777, 0o755);
  const shim = `${world.prefix}/usr/bin/containerd-shim-quasaur-wasm-process-v1`;
  assert.equal(
    await Deno.realPath(shim),
    `${world.prefix}/usr/lib/quasaur/shim/containerd-shim-quasaur`,
  );
  const again = await world.install();
  assert.ok(again.actions.every((action) => action === "same"));
  assert.deepEqual(await world.files(), files);
  assert.deepEqual(await world.uninstall(), []);
  assert.deepEqual(await world.files(), before);
});

Deno.test("an upgrade replaces what is as it was left, and keeps configuration that was changed", async () => {
  await using world = await World.make();
  await world.install();
  const config = `${world.prefix}/etc/quasaur/vmm.toml`;
  await Deno.writeTextFile(config, "mine");
  await world.bundle("2");
  const { actions } = await world.install();
  assert.deepEqual(new Set(actions), new Set(["put", "same", "keep"]));
  assert.equal(await Deno.readTextFile(config), "mine");
  assert.equal(
    await Deno.readTextFile(`${world.prefix}/usr/lib/quasaur/quasaur.js`),
    "quasaur.js2",
  );
  assert.equal((await readManifest(world.prefix))?.version, "2");
  assert.deepEqual(await world.uninstall(), ["/etc/quasaur/vmm.toml"]);
  assert.deepEqual(await world.files(), ["/etc", "/etc/quasaur", "/etc/quasaur/vmm.toml"]);
});

Deno.test("a file of somebody else is in the way, and stays unless forced", async () => {
  await using world = await World.make();
  await Deno.mkdir(`${world.prefix}/usr/bin`, { recursive: true });
  await Deno.writeTextFile(`${world.prefix}/usr/bin/quasaur`, "other");
  const before = await world.files();
  await assert.rejects(world.install(), /somebody else wrote .*\/usr\/bin\/quasaur: move it away/);
  assert.deepEqual(await world.files(), before);
  await world.install(SANDBOXER_KINDS, true);
  assert.equal(
    await Deno.readLink(`${world.prefix}/usr/bin/quasaur`),
    "../lib/quasaur/bin/quasaur",
  );
});

Deno.test("kinds are installed one by one, and stay when others come", async () => {
  await using world = await World.make();
  await world.install(["wasm"]);
  const units = async () =>
    (await world.files()).filter((path) => path.startsWith("/usr/lib/systemd/system/"));
  assert.deepEqual(await units(), ["/usr/lib/systemd/system/quasaur-wasm.service"]);
  await world.install(["quark"]);
  assert.equal((await units()).length, 2);
  assert.deepEqual((await readManifest(world.prefix))?.kinds, ["wasm", "quark"]);
});

Deno.test("an installation that stopped in the middle is finished, or taken away", async () => {
  await using world = await World.make();
  const { bundleDirectory: bundle, prefix } = world;
  const plan = await planInstall({ bundle, prefix, kinds: ["wasm"], force: false });
  // What comes last cannot be written: its directory is a file.
  const last = plan.placements.findLast(({ item }) => item.type === "file")?.item.path ?? "";
  const blocked = `${prefix}${last}`;
  await Deno.mkdir(blocked, { recursive: true });
  await assert.rejects(install(plan, false), /cannot write/);
  await Deno.remove(blocked);
  const { actions } = await world.install(["wasm"]);
  assert.ok(actions.includes("same") && actions.includes("put"));
  assert.deepEqual(await world.uninstall(), []);
  assert.ok(!(await world.files()).some((path) => path.includes("quasaur")));
});

Deno.test("without rights the message says who has them", () => {
  const error = cannotWrite("/usr/bin/quasaur", new Deno.errors.PermissionDenied("no"));
  assert.equal(error.code, "PermissionDenied");
  assert.match(
    error.message,
    /^cannot write \/usr\/bin\/quasaur: permission denied: run this as root$/,
  );
});

Deno.test("what is there for Prometheus and Grafana is installed, all of it", async () => {
  const there = await Promise.all(["grafana", "prometheus"].map(async (name) => {
    const directory = new URL(`../../deploy/${name}`, import.meta.url);
    return (await Array.fromAsync(Deno.readDir(directory))).map((file) => `${name}/${file.name}`);
  }));
  const installed = installedItems(SANDBOXER_KINDS)
    .filter(({ path }) => path.startsWith("/usr/share/quasaur/"))
    .map((item) => item.type === "file" ? item.source : item.path);
  assert.deepEqual(installed.sort(), there.flat().sort());
});
