/**
 * Volumes for real on the host's side (bind mounts by the launcher, watched files), with an agent
 * that only keeps what it is sent.
 */

import assert from "node:assert/strict";
import { HostMounter } from "../../host/mounter.ts";
import { launcher } from "../../host/testing/fixture.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { BindMountSpec } from "../../lifecycle/spec.ts";
import { containerSpec } from "../../lifecycle/testing/specs.ts";
import { noLog } from "../../log.ts";
import { PodVolumes, type PodVolumesOptions } from "./pod_volumes.ts";
import { mountsBelow, namesIn, rejects, until, VolumeAgent, workspace } from "./testing/fixture.ts";

const { signal } = new AbortController();
const mounter = new HostMounter(launcher);

/** A pod with its directory, a place for sources, and a guest. */
async function pod(changes: Partial<PodVolumesOptions> = {}) {
  const work = await workspace();
  const directory = `${work.path}/pod`;
  const sources = `${work.path}/sources`;
  await Deno.mkdir(directory);
  await Deno.mkdir(sources);
  const volumes = new PodVolumes({ directory, mounter, log: noLog, ...changes });
  const agent = new VolumeAgent();
  return {
    directory,
    sources,
    volumes,
    agent,
    guest: { agent, hasSharedTree: false },
    sharing: { agent, hasSharedTree: true },
    [Symbol.asyncDispose]: async () => {
      await volumes.release();
      await work[Symbol.asyncDispose]();
    },
  };
}

function withMounts(id: string, ...mounts: BindMountSpec[]) {
  return containerSpec(id, "pod", { mounts });
}

function readonly(source: string, destination = "/data"): BindMountSpec {
  return { source, destination, readonly: true };
}

function writable(source: string, destination = "/data"): BindMountSpec {
  return { source, destination, readonly: false };
}

Deno.test("a small read-only directory is copied to the guest and kept up to date", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  await Deno.mkdir(`${sources}/..v1`);
  await Deno.writeTextFile(`${sources}/..v1/key`, "old");
  await Deno.symlink("..v1", `${sources}/..data`);
  await Deno.symlink("..data/key", `${sources}/key`);
  const spec = withMounts("c1", readonly(sources));
  assert.equal(await volumes.whySharedTree(spec, signal), undefined);
  const opened = await volumes.open(spec, guest, signal);
  const [mount] = opened.mounts;
  assert.ok(mount?.kind === "volume");
  assert.deepEqual([mount.destination, mount.readonly, mount.path], ["/data", true, "."]);
  assert.deepEqual(
    Object.fromEntries(agent.volumes.get(mount.volume) ?? []),
    { ".": "/", "..v1": "/", "..v1/key": "old", "..data": "-> ..v1", "key": "-> ..data/key" },
  );
  // As kubelet does it.
  await Deno.mkdir(`${sources}/..v2`);
  await Deno.writeTextFile(`${sources}/..v2/key`, "new");
  await Deno.symlink("..v2", `${sources}/..tmp`);
  await Deno.rename(`${sources}/..tmp`, `${sources}/..data`);
  await Deno.remove(`${sources}/..v1`, { recursive: true });
  await until(() => !agent.only.has("..v1"), "the old version is gone");
  assert.equal(agent.only.get("..data"), "-> ..v2");
  assert.equal(agent.only.get("..v2/key"), "new");
  // Also in a directory that was not there at first.
  await Deno.writeTextFile(`${sources}/..v2/second`, "2");
  await until(() => agent.only.get("..v2/second") === "2", "the second file is there");
  await opened.release();
  assert.deepEqual(await mountsBelow(world.directory), []);
});

Deno.test("a failure of the guest is tried again", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  await Deno.writeTextFile(`${sources}/file`, "1");
  const opened = await volumes.open(withMounts("c1", readonly(sources)), guest, signal);
  agent.failure = new SandboxError("Unavailable", "no answer");
  await Deno.writeTextFile(`${sources}/file`, "2");
  await new Promise((resolve) => setTimeout(resolve, 200));
  agent.failure = undefined;
  await Deno.writeTextFile(`${sources}/other`, "3");
  await until(() => agent.only.get("other") === "3", "the other file is there");
  assert.equal(agent.only.get("file"), "2");
  await opened.release();
});

Deno.test("files larger than a message come in pieces", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  const text = "0123456789abcdef".repeat(50_000);
  await Deno.writeTextFile(`${sources}/long`, text);
  await Deno.writeTextFile(`${sources}/empty`, "");
  const opened = await volumes.open(withMounts("c1", readonly(`${sources}/long`)), guest, signal);
  const [mount] = opened.mounts;
  assert.ok(mount?.kind === "volume");
  assert.equal(mount.path, "file");
  assert.equal(agent.only.get("file"), text);
  assert.ok(agent.entries.length > 3);
  assert.deepEqual(
    agent.entries.map((entry) => entry.kind === "file" && entry.last),
    agent.entries.map((_, i) => i === agent.entries.length - 1),
  );
  await opened.release();
});

Deno.test("an emptyDir is memory of the guest, the same for all containers, owned as on the host", async () => {
  await using world = await pod();
  const { sources, volumes, guest } = world;
  const source = `${sources}/volumes/kubernetes.io~empty-dir/cache`;
  await Deno.mkdir(source, { recursive: true });
  await Deno.chown(source, 0, 2000);
  await Deno.chmod(source, 0o2777);
  const [a, b] = [
    await volumes.open(withMounts("c1", writable(source)), guest, signal),
    await volumes.open(withMounts("c2", readonly(source, "/other")), guest, signal),
  ];
  const [first, second] = [a.mounts[0], b.mounts[0]];
  assert.ok(first?.kind === "memory" && second?.kind === "memory");
  assert.equal(first.name, second.name);
  assert.deepEqual(first.owner, { uid: 0, gid: 2000, mode: 0o2777 });
  assert.deepEqual([first.readonly, second.readonly], [false, true]);
});

Deno.test("what a container writes to its termination log reaches the host", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  await Deno.writeTextFile(`${sources}/end`, "");
  const spec = withMounts("c1", writable(`${sources}/end`, "/dev/termination-log"));
  assert.equal(await volumes.whySharedTree(spec, signal), undefined);
  const opened = await volumes.open(spec, guest, signal);
  assert.equal(opened.mounts[0]?.readonly, false);
  agent.only.set("file", "why I ended\n");
  await opened.readBack();
  assert.equal(await Deno.readTextFile(`${sources}/end`), "why I ended\n");
  // Of a long one the end counts.
  agent.only.set("file", `${"x".repeat(100_000)}the end`);
  await opened.readBack();
  const text = await Deno.readTextFile(`${sources}/end`);
  assert.deepEqual([text.length, text.endsWith("xthe end")], [64 << 10, true]);
  agent.failure = new SandboxError("Unavailable", "the guest is gone");
  await opened.readBack();
  await opened.release();
});

Deno.test("a pod's own hosts file stays in the guest where a container writes to it", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  const source = `${sources}/pods/1/etc-hosts`;
  await Deno.mkdir(`${sources}/pods/1`, { recursive: true });
  await Deno.writeTextFile(source, "127.0.0.1 localhost\n");
  const opened = await volumes.open(
    withMounts("c1", writable(source, "/etc/hosts")),
    guest,
    signal,
  );
  assert.deepEqual([opened.mounts[0]?.kind, opened.mounts[0]?.readonly], ["volume", false]);
  await Deno.writeTextFile(source, "127.0.0.1 localhost other\n");
  await until(() => agent.only.get("file")?.includes("other") === true, "the guest has the change");
  agent.only.set("file", "of the container");
  await opened.readBack();
  assert.match(await Deno.readTextFile(source), /other/);
});

Deno.test("what is written to or large needs the shared tree, and it is said why", async () => {
  await using world = await pod({ copyLimits: { bytesMax: 100, entriesMax: 5 } });
  const { sources, volumes, guest, sharing } = world;
  const why = (mount: BindMountSpec) => volumes.whySharedTree(withMounts("c1", mount), signal);
  assert.equal(
    await why(writable(sources)),
    `the volume "${sources}" at "/data", which can be written to,`,
  );
  await Deno.writeTextFile(`${sources}/big`, "x".repeat(101));
  assert.match(await why(readonly(sources)) ?? "", /which holds more than 100 bytes,$/);
  assert.deepEqual(await mountsBelow(world.directory), []);
  await rejects(
    volumes.open(withMounts("c1", writable(sources)), guest, signal),
    "FailedPrecondition",
    /which can be written to.*annotation "quasaur.dev\/share-fs: virtiofs"/,
  );
  assert.deepEqual(await mountsBelow(world.directory), []);

  const spec = withMounts("c2", writable(sources), readonly(sources, "/ro"));
  const opened = await volumes.open(spec, sharing, signal);
  const paths = opened.mounts.map((mount) => mount.kind === "shared" ? mount.path : assert.fail());
  assert.equal(new Set(paths).size, 2);
  const [rw, ro] = paths.map((path) => `${volumes.treeDirectory}/${path}`);
  await Deno.writeTextFile(`${rw}/new`, "text");
  assert.equal(await Deno.readTextFile(`${sources}/new`), "text");
  await assert.rejects(Deno.writeTextFile(`${ro}/new`, "text"), /Read-only/);
  await opened.release();
  assert.deepEqual(await mountsBelow(world.directory), []);
});

Deno.test("sources that no microVM can have are refused by name", async () => {
  await using world = await pod();
  const { sources, volumes, guest, sharing } = world;
  using _listener = Deno.listen({ transport: "unix", path: `${sources}/docker.sock` });
  for (const at of [guest, sharing]) {
    await rejects(
      volumes.open(withMounts("c1", writable(`${sources}/docker.sock`)), at, signal),
      "FailedPrecondition",
      /docker.sock" at "\/data": it is a socket of the host/,
    );
    await rejects(
      volumes.open(withMounts("c1", readonly(`${sources}/missing`)), at, signal),
      "InvalidArgument",
      /missing": there is no such file or directory/,
    );
  }
  assert.deepEqual(await mountsBelow(world.directory), []);
});

Deno.test("files and directories are told apart, however many there are", async () => {
  await using world = await pod();
  const { sources, volumes, sharing } = world;
  await Deno.mkdir(`${sources}/directory`);
  await Deno.writeTextFile(`${sources}/file`, "text");
  const opened = await volumes.open(
    withMounts("c1", writable(`${sources}/directory`, "/a"), writable(`${sources}/file`, "/b")),
    sharing,
    signal,
  );
  const [directory, file] = opened.mounts.map((mount) =>
    `${volumes.treeDirectory}/${mount.kind === "shared" ? mount.path : assert.fail()}`
  );
  await Deno.writeTextFile(`${directory}/new`, "");
  assert.equal(await Deno.readTextFile(file ?? ""), "text");
  await rejects(
    volumes.open(
      withMounts("c2", readonly(`${sources}/directory`), readonly(`${sources}/missing`, "/m")),
      sharing,
      signal,
    ),
    "InvalidArgument",
    /missing": there is no such/,
  );
  assert.equal((await mountsBelow(world.directory)).length, 2, "the first container's are there");
  await opened.release();
});

Deno.test("containers share a source, and the last one takes it away", async () => {
  await using world = await pod();
  const { sources, volumes, sharing } = world;
  const [a, b] = [
    await volumes.open(withMounts("c1", writable(sources)), sharing, signal),
    await volumes.open(withMounts("c2", writable(sources)), sharing, signal),
  ];
  assert.deepEqual(a.mounts, b.mounts);
  assert.equal((await mountsBelow(world.directory)).length, 1);
  await a.release();
  await a.release();
  assert.equal((await mountsBelow(world.directory)).length, 1);
  await b.release();
  assert.deepEqual(await mountsBelow(world.directory), []);
});

Deno.test("a volume that a container had before is not sent again", async () => {
  await using world = await pod();
  const { sources, volumes, agent, guest } = world;
  await Deno.writeTextFile(`${sources}/file`, "text");
  const first = await volumes.open(withMounts("c1", readonly(sources)), guest, signal);
  await first.release();
  const sent = agent.entries.length;
  const second = await volumes.open(withMounts("c2", readonly(sources)), guest, signal);
  assert.deepEqual(second.mounts, first.mounts);
  assert.equal(agent.entries.length, sent);
});

Deno.test("the next sandboxer takes volumes over and removes what nobody uses", async () => {
  await using world = await pod();
  const { directory, sources, volumes, agent, guest } = world;
  await Deno.mkdir(`${sources}/kept`);
  await Deno.writeTextFile(`${sources}/kept/file`, "1");
  await Deno.writeTextFile(`${sources}/end`, "");
  const spec = withMounts(
    "c1",
    readonly(`${sources}/kept`),
    writable(`${sources}/end`, "/dev/termination-log"),
  );
  const opened = await volumes.open(spec, guest, signal);
  await volumes.open(withMounts("lost", readonly(sources)), guest, signal);
  const record = JSON.parse(JSON.stringify(opened.record));
  const sent = agent.entries.length;
  // What the first one does from here on must not count.
  const before = new VolumeAgent();
  Object.assign(guest, { agent: before });

  await using next = new AsyncDisposableStack();
  const later = new PodVolumes({ directory, mounter, log: noLog });
  next.defer(() => later.release());
  const adopted = await later.adopt("c1", record, { agent, hasSharedTree: false });
  await later.sweep();
  assert.equal((await mountsBelow(directory)).length, 2);
  await Deno.writeTextFile(`${sources}/kept/file`, "2");
  const files = () => [...agent.volumes.values()].flatMap((files) => [...files]);
  await until(
    () => files().some(([path, text]) => path === "file" && text === "2"),
    "the change is there",
  );
  assert.ok(agent.entries.length > sent);
  for (const [, files] of agent.volumes) if (files.get("file") === "") files.set("file", "ended");
  await adopted.readBack();
  assert.equal(await Deno.readTextFile(`${sources}/end`), "ended");
  await adopted.release();
  assert.deepEqual(await mountsBelow(directory), []);
});

Deno.test("removing a pod never touches the host's files", async () => {
  await using world = await pod();
  const { directory, sources, volumes, sharing } = world;
  await Deno.writeTextFile(`${sources}/precious`, "text");
  await volumes.open(withMounts("c1", writable(sources)), sharing, signal);
  // As after a crash: nothing is known but the directory.
  const later = new PodVolumes({ directory, mounter, log: noLog });
  const refusing = new PodVolumes({
    directory,
    log: noLog,
    mounter: {
      bind: () => Promise.reject(new Error("not here")),
      unmountAll: () => Promise.resolve(),
    },
  });
  await assert.rejects(refusing.release(), /cannot remove the place of a mount/);
  assert.equal(await Deno.readTextFile(`${sources}/precious`), "text");
  await later.release();
  await later.release();
  await rejects(
    later.open(withMounts("late", writable(sources)), sharing, signal),
    "FailedPrecondition",
    /"late" is too late/,
  );
  assert.deepEqual(await namesIn(directory), []);
  assert.equal(await Deno.readTextFile(`${sources}/precious`), "text");
});

Deno.test("a root file system can be shown in the tree, and goes with its container", async () => {
  await using world = await pod();
  const { sources, volumes, sharing } = world;
  await Deno.writeTextFile(`${sources}/file`, "text");
  const rootfs = { kind: "directory", path: sources } as const;
  const spec = containerSpec("c1", "pod", { rootfs, mounts: [writable(sources)] });
  const path = `${volumes.treeDirectory}/${await volumes.shareRootfs(spec)}`;
  const opened = await volumes.open(spec, sharing, signal);
  assert.equal(await Deno.readTextFile(`${path}/file`), "text");
  await assert.rejects(Deno.writeTextFile(`${path}/file`, "other"), /Read-only/);
  await opened.release();
  assert.deepEqual(await mountsBelow(world.directory), []);
});

Deno.test("a source that is still used on the host's side can be let go of", async () => {
  await using world = await pod();
  const { sources, volumes, sharing } = world;
  await Deno.writeTextFile(`${sources}/file`, "text");
  const opened = await volumes.open(withMounts("c1", writable(sources)), sharing, signal);
  const [mount] = opened.mounts;
  assert.ok(mount?.kind === "shared");
  // As a file server does it whose guest still knows the file.
  using file = await Deno.open(`${volumes.treeDirectory}/${mount.path}/file`);
  await opened.release();
  assert.deepEqual(await mountsBelow(world.directory), []);
  assert.equal(await file.read(new Uint8Array(8)), 4);
});

Deno.test("a caller that gave up leaves nothing mounted", async () => {
  await using world = await pod();
  const { sources, volumes, guest } = world;
  const gone = AbortSignal.abort();
  const spec = withMounts("c1", readonly(sources));
  await rejects(volumes.open(spec, guest, gone), "Cancelled", /c1/);
  await rejects(volumes.whySharedTree(spec, gone), "Cancelled", /c1/);
  assert.deepEqual(await mountsBelow(world.directory), []);
});
