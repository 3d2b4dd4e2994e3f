import assert from "node:assert/strict";
import type { BindMountSpec, RootfsSpec } from "../lifecycle/spec.ts";
import { containerSpec, sandboxSpec, system } from "./fixture.ts";
import { PodFiles, removePodFiles } from "./pod_files.ts";

const POD_NETWORK = { kind: "namespace", path: "/run/netns/x" } as const;
const MOUNTED: RootfsSpec = { kind: "mounts", target: "/nowhere", mounts: [] };

/** A directory for pods, removed when disposed of. */
async function parentDirectory() {
  const path = await Deno.makeTempDir({ prefix: "quasaur-pods-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

function mountsOf(files: PodFiles, mounts: readonly BindMountSpec[] = [], rootfs = MOUNTED) {
  const found = files.mountsFor(containerSpec("", ["/a.wasm"], { rootfs, mounts }));
  return new Map(found.map((mount) => [mount.destination, mount]));
}

async function textOf(files: PodFiles, destination: string): Promise<string> {
  return await Deno.readTextFile(mountsOf(files).get(destination)?.source ?? "");
}

Deno.test("a pod's files say its name and how to look up others", async () => {
  await using parent = await parentDirectory();
  const dns = { servers: ["10.0.0.1", "10.0.0.2"], searches: ["a.b", "c"], options: ["ndots:5"] };
  const spec = sandboxSpec({ network: POD_NETWORK, hostname: "web", dns });
  {
    using files = new PodFiles(system, parent.path, spec);
    assert.equal(await textOf(files, "/etc/hostname"), "web\n");
    assert.equal(
      await textOf(files, "/etc/resolv.conf"),
      "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n",
    );
    assert.match(await textOf(files, "/etc/hosts"), /^127\.0\.0\.1\tlocalhost\n/);
    assert.ok([...mountsOf(files).values()].every(({ readonly }) => readonly));
  }
  assert.deepEqual(await Array.fromAsync(Deno.readDir(parent.path)), []);
});

Deno.test("where a pod says nothing, the host's own files are right", async () => {
  await using parent = await parentDirectory();
  const dns = { servers: [], searches: [], options: [] };
  using files = new PodFiles(system, parent.path, sandboxSpec({ hostname: "", dns }));
  const mounts = mountsOf(files);
  assert.equal(mounts.get("/etc/hosts")?.source, "/etc/hosts");
  for (const [destination, { source }] of mounts) assert.equal(source, destination);
});

Deno.test("what a container mounts itself, or would mount in its caller's directory, is left out", async () => {
  await using parent = await parentDirectory();
  using files = new PodFiles(system, parent.path, sandboxSpec({ hostname: "web" }));
  const own = { source: "/x", destination: "/etc/hosts", readonly: false };
  assert.ok(!mountsOf(files, [own]).has("/etc/hosts"));
  assert.ok(mountsOf(files, [own]).has("/etc/hostname"));
  assert.equal(mountsOf(files, [], { kind: "directory", path: "/x" }).size, 0);
});

Deno.test("a pod writes its files again over what an earlier process left", async () => {
  await using parent = await parentDirectory();
  const spec = sandboxSpec({ hostname: "one" });
  new PodFiles(system, parent.path, spec);
  const files = new PodFiles(system, parent.path, { ...spec, hostname: "two" });
  assert.equal(await textOf(files, "/etc/hostname"), "two\n");
  removePodFiles(parent.path, spec.id);
  files[Symbol.dispose]();
  assert.deepEqual(await Array.fromAsync(Deno.readDir(parent.path)), []);
});

Deno.test("files that cannot be written are an error that names the pod", () => {
  assert.throws(() => new PodFiles(system, "/proc/none", sandboxSpec()), {
    name: "SandboxError",
    message: /cannot write the files of sandbox "pod"/,
  });
  assert.throws(() => new PodFiles(system, "/tmp", sandboxSpec({ id: "../x" })), /sandbox id/);
});
