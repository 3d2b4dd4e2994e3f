/**
 * What tests of storage share: directories that go away again with all that is mounted in them, and
 * an agent that keeps volumes in memory.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RequestName, Requests, VolumeEntry } from "../../../../guest/protocol/messages.ts";
import { SandboxError } from "../../../lifecycle/errors.ts";
import type { ContainerSpec, RootfsSpec } from "../../../lifecycle/spec.ts";
import { containerSpec } from "../../../lifecycle/testing/specs.ts";
import type { Agent } from "../../agent.ts";

/** A directory to work in. */
export interface Workspace extends AsyncDisposable {
  /** Its absolute path. */
  readonly path: string;
}

/** Runs a command that must succeed, and gives its output. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const text = new TextDecoder();
  assert.ok(success, `${command} ${args.join(" ")}: ${text.decode(stderr)}`);
  return text.decode(stdout);
}

/**
 * A tmpfs of its own, so that overlays can be made whatever the temporary directory lies on, and
 * disks can be small.
 *
 * @param size As tmpfs(5) has it; default 64 MiB.
 */
export async function workspace(size = "64m"): Promise<Workspace> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-storage-" });
  await Deno.chmod(path, 0o755);
  await run("mount", "-t", "tmpfs", "-o", `size=${size},mode=755`, "tmpfs", path);
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      // The kernel lets go of a loop device, and of a killed program, a moment after their end.
      const args = ["-R", path];
      await until(async () => {
        return (await new Deno.Command("umount", { args, stderr: "null" }).output()).success;
      }, `"${path}" can be unmounted`);
      await Deno.remove(path);
    },
  };
}

/** The names in a directory, sorted. */
export async function namesIn(directory: string): Promise<readonly string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
}

/** What is mounted below a directory, by path. */
export async function mountsBelow(directory: string): Promise<readonly string[]> {
  const lines = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n");
  return lines.map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${directory}/`));
}

/** A container with a root file system. */
export function containerWith(
  id: string,
  rootfs: RootfsSpec,
  changes: Partial<ContainerSpec> = {},
): ContainerSpec {
  return containerSpec(id, "pod", { rootfs, ...changes });
}

/** Fails with a code and words. */
export async function rejects(
  promise: Promise<unknown>,
  code: SandboxError["code"],
  words: RegExp,
): Promise<void> {
  await assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.deepEqual(
      [error.code, error.message.match(words) !== null],
      [code, true],
      error.message,
    );
    return true;
  });
}

/** Waits until something holds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 15_000;
  while (!await holds()) {
    assert.ok(Date.now() < end, `waited too long until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A volume as the guest has it: content of files, `-> target` of links, `/` of directories. */
export type GuestVolume = Map<string, string>;

/** An agent that has nothing but volumes. */
export class VolumeAgent implements Agent {
  /** The volumes by name. */
  readonly volumes = new Map<string, GuestVolume>();
  /** Every entry that came, in order. */
  readonly entries: VolumeEntry[] = [];
  /** Set to fail every request. */
  failure: SandboxError | undefined;

  /** Serves a request. */
  request<K extends RequestName>(
    name: K,
    args: Requests[K]["args"],
  ): Promise<Requests[K]["result"]>;
  request(name: RequestName, args: unknown): Promise<unknown> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    // What a name goes with is in the declaration above.
    if (name === "volumeSync") return this.#sync(args as Requests["volumeSync"]["args"]);
    if (name === "volumeRead") return this.#read(args as Requests["volumeRead"]["args"]);
    return Promise.reject(new SandboxError("Unimplemented", `no ${name} here`));
  }

  /** The only volume. */
  get only(): GuestVolume {
    const [volume] = this.volumes.values();
    assert.equal(this.volumes.size, 1);
    assert.ok(volume);
    return volume;
  }

  #sync({ volume, entries }: Requests["volumeSync"]["args"]): Promise<unknown> {
    const files = this.volumes.get(volume) ?? new Map();
    this.volumes.set(volume, files);
    for (const entry of entries) {
      this.entries.push(entry);
      apply(files, entry);
    }
    return Promise.resolve({});
  }

  #read({ volume, path, offset, length }: Requests["volumeRead"]["args"]): Promise<unknown> {
    const content = this.volumes.get(volume)?.get(path);
    if (content === undefined) return Promise.reject(new SandboxError("NotFound", "no such file"));
    const bytes = new TextEncoder().encode(content);
    const data = bytes.slice(offset, offset + length).toBase64();
    return Promise.resolve({ data, sizeBytes: bytes.length });
  }
}

function apply(files: GuestVolume, entry: VolumeEntry): void {
  const { path } = entry;
  switch (entry.kind) {
    case "directory":
      files.set(path, "/");
      return;
    case "link":
      files.set(path, `-> ${entry.target}`);
      return;
    case "gone":
      for (const name of [...files.keys()]) {
        if (name === path || name.startsWith(`${path}/`)) files.delete(name);
      }
      return;
    case "file": {
      const piece = new TextDecoder().decode(Uint8Array.fromBase64(entry.data));
      const old = entry.offset === 0 ? "" : files.get(path) ?? "";
      assert.equal(old.length, entry.offset);
      files.set(path, old + piece);
    }
  }
}
