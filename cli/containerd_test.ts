/**
 * `quasaur containerd config` as people run it, with the rights that it has and the real containerd
 * as its judge.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** How a run ended, and what it wrote. */
interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory with a configuration in it. */
class Place implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(): Promise<Place> {
    return new Place(await Deno.makeTempDir({ prefix: "quasaur-containerd-" }));
  }

  get file(): string {
    return `${this.directory}/etc/config.toml`;
  }

  /** Writes the configuration. */
  async write(text: string): Promise<void> {
    await Deno.mkdir(`${this.directory}/etc`, { recursive: true });
    await Deno.writeTextFile(this.file, text);
  }

  async read(): Promise<string> {
    return await Deno.readTextFile(this.file);
  }

  /** The names beside the configuration. */
  async names(): Promise<string[]> {
    const entries = await Array.fromAsync(Deno.readDir(`${this.directory}/etc`)).catch(() => []);
    return entries.map(({ name }) => name).sort();
  }

  async run(...args: string[]): Promise<Ended> {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-prompt", `--config=${ROOT}deno.json`, "-P=cli-host"],
        ...[`${ROOT}cli/main.ts`, "containerd", "config", "--file", this.file, ...args],
      ],
      env: { NO_COLOR: "1" },
    }).output();
    const [out, err] = [stdout, stderr].map((it) => new TextDecoder().decode(it));
    return { code, stdout: out ?? "", stderr: err ?? "" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** As Debian ships it: version 2, with tables in tables. */
const DEBIAN = `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni] # where Debian has them
      bin_dir = "/usr/lib/cni"
`;

Deno.test("--apply merges, keeps a copy, and --undo brings every byte back", async () => {
  await using place = await Place.make();
  await place.write(DEBIAN);
  await Deno.chmod(place.file, 0o640);
  const dry = await place.run("--apply", "--dry-run");
  assert.equal(dry.code, 0, dry.stderr);
  assert.match(dry.stdout, /^\+\[proxy_plugins\.quasaur-quark\]$/m);
  assert.equal(await place.read(), DEBIAN);
  const applied = await place.run("--apply");
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /^added proxy_plugins\.quasaur-wasm$/m);
  const text = await place.read();
  assert.ok(text.startsWith(DEBIAN));
  assert.equal(((await Deno.stat(place.file)).mode ?? 0) & 0o777, 0o640);
  const copy = await Deno.readTextFile(`${place.file}.before-quasaur`);
  assert.equal(copy, DEBIAN);
  const again = await place.run("--apply");
  assert.deepEqual([again.code, await place.read()], [0, text]);
  assert.match(again.stdout, /nothing to do/);
  const undone = await place.run("--undo");
  assert.equal(undone.code, 0, undone.stderr);
  assert.equal(await place.read(), DEBIAN);
  assert.deepEqual(await place.names(), ["config.toml"]);
});

Deno.test("a file that is missing is made, with its directory, and goes again", async () => {
  await using place = await Place.make();
  const applied = await place.run("--apply", "--kind", "gvisor");
  assert.equal(applied.code, 0, applied.stderr);
  const text = await place.read();
  assert.match(text, /^version = 3\n/);
  assert.match(text, /runtimes\.quasaur-gvisor\]/);
  assert.doesNotMatch(text, /wasm|runtimes\.quasaur-quark\]/);
  const undone = await place.run("--undo");
  assert.equal(undone.code, 0, undone.stderr);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(place.directory)), []);
});

Deno.test("what differs is refused with a difference shown, and nothing is written", async () => {
  await using place = await Place.make();
  const text = `version = 3\n[proxy_plugins.quasaur-vmm]\n  type = "sandbox"\n  address = "/old"\n`;
  await place.write(text);
  const refused = await place.run("--apply", "--kind", "vmm");
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    /config\.toml:4: .*address is "\/old", expected "\/run\/quasaur\/vmm/,
  );
  assert.match(refused.stdout, /^-\s+address = "\/old"$/m);
  assert.deepEqual([await place.read(), await place.names()], [text, ["config.toml"]]);
  const forced = await place.run("--apply", "--kind", "vmm", "--force");
  assert.equal(forced.code, 0, forced.stderr);
  await Deno.writeTextFile(place.file, "# mine\n", { append: true });
  assert.equal((await place.run("--undo")).code, 0);
  assert.equal(await place.read(), `${text}# mine\n`);
});

Deno.test("what the real containerd does not take is not written", async () => {
  await using place = await Place.make();
  // containerd wants a list here; it is TOML all the same.
  const text = `version = 3\ndisabled_plugins = 5\n`;
  await place.write(text);
  const refused = await place.run("--apply");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /containerd --config .* config dump failed/);
  assert.deepEqual([await place.read(), await place.names()], [text, ["config.toml"]]);
});

Deno.test("sections of an imported file are found: equal ones are enough, others are in the way", async () => {
  await using place = await Place.make();
  await place.write(`version = 3\nimports = ["more/*.toml"]\n`);
  await Deno.mkdir(`${place.directory}/etc/more`);
  const more = `${place.directory}/etc/more/a.toml`;
  const plugin = `version = 3\n[proxy_plugins.quasaur-vmm]\n  type = "sandbox"\n`;
  await Deno.writeTextFile(more, `${plugin}  address = "/run/quasaur/vmm.sock"\n`);
  const applied = await place.run("--apply", "--kind", "vmm");
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /quasaur-vmm is in .*more\/a\.toml, which is imported/);
  assert.doesNotMatch(await place.read(), /proxy_plugins/);
  assert.match(await place.read(), /runtimes\.quasaur-vmm/);
  await place.run("--undo");
  await Deno.writeTextFile(more, `${plugin}  address = "/other"\n`);
  const refused = await place.run("--apply", "--kind", "vmm", "--force");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /more\/a\.toml:4: .*this file is imported: change it there/);
});

Deno.test("a bad command line is refused with 2, an old version with 1", async () => {
  await using place = await Place.make();
  await place.write(`version = 1\n`);
  const results = await Promise.all([
    place.run("--apply", "--undo"),
    place.run("--kind", "xen"),
    place.run("--dry-run"),
    place.run("--apply"),
  ]);
  assert.deepEqual(results.map(({ code }) => code), [2, 2, 2, 1]);
  assert.match(
    results[3]?.stderr ?? "",
    /version 1: expected version 2 or 3: run `containerd config/,
  );
});
