import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec } from "../../lifecycle/spec.ts";
import { containerSpec, TERMINAL } from "../../lifecycle/testing/specs.ts";
import { type JsonObject, objectOf, objectsOf, stringOf } from "../../oci/json.ts";
import { containerConfig } from "./container_config.ts";
import { sharedFiles } from "./shared_files.ts";

const SHM = {
  destination: "/dev/shm",
  type: "tmpfs",
  source: "shm",
  options: ["nosuid", "mode=1777", "size=65536k"],
};

/** As containerd 2.1 writes it for a container in a pod of a proxy sandboxer, shortened. */
const CRI_CONFIG = {
  ociVersion: "1.2.1",
  process: {
    user: { uid: 1000, gid: 1000, additionalGids: [2000] },
    args: ["/bin/app"],
    env: ["PATH=/bin"],
    cwd: "/",
    capabilities: { bounding: ["CAP_CHOWN"] },
    noNewPrivileges: true,
    apparmorProfile: "cri-containerd.apparmor.d",
    selinuxLabel: "system_u:system_r:container_t:s0",
    oomScoreAdj: 1000,
  },
  root: { path: "rootfs", readonly: true },
  mounts: [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid"] },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
    SHM,
    { destination: "/data", type: "bind", source: "/srv", options: ["rbind", "rprivate", "rro"] },
    { destination: "/odd", type: "ext4", source: "/dev/sda", options: [] },
  ],
  hooks: { createRuntime: [{ path: "/usr/bin/hook" }] },
  annotations: {
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.sandbox-id": "the-sandbox",
    "dev.gvisor.flag.debug": "true",
    "dev.gvisor.spec.rootfs.source": "/etc",
  },
  linux: {
    resources: { memory: { limit: 67108864 } },
    cgroupsPath: "/kubepods/pod1/c1",
    namespaces: [
      { type: "pid" },
      { type: "ipc", path: "/proc/0/ns/ipc" },
      { type: "mount" },
      { type: "network", path: "/proc/0/ns/net" },
    ],
    seccomp: { defaultAction: "SCMP_ACT_ALLOW" },
    maskedPaths: ["/proc/kcore"],
    mountLabel: "x",
    rootfsPropagation: "rslave",
    uidMappings: [{ containerID: 0, hostID: 100000, size: 65536 }],
  },
};

const SURROUNDINGS = {
  sandbox: "s1",
  name: "n1",
  empty: "/pods/s1/empty",
  files: sharedFiles("/pods/s1"),
};

/** The configuration that comes of a config.json. */
async function converted(config: JsonObject, changes: Partial<ContainerSpec> = {}) {
  const bundle = await Deno.makeTempDir({ prefix: "quasaur-oci-" });
  try {
    await Deno.writeTextFile(`${bundle}/config.json`, JSON.stringify(config));
    return await containerConfig(containerSpec("c1", "pod", { bundle, ...changes }), SURROUNDINGS);
  } finally {
    await Deno.remove(bundle, { recursive: true });
  }
}

/** What is mounted at a destination. */
function mountAt(document: JsonObject, destination: string): JsonObject | undefined {
  return objectsOf(document, "mounts").find((mount) => mount["destination"] === destination);
}

Deno.test("a container's config is handed on without what is the host's", async () => {
  const { document } = await converted(CRI_CONFIG);
  const { apparmorProfile: _a, selinuxLabel: _s, ...process } = CRI_CONFIG.process;
  assert.deepEqual(document["process"], { ...process, terminal: false });
  assert.deepEqual(document["root"], { path: "/run/c1/rootfs", readonly: false });
  assert.equal("hooks" in document, false);
  assert.deepEqual(document["linux"], {
    seccomp: { defaultAction: "SCMP_ACT_ALLOW" },
    namespaces: [{ type: "mount" }, { type: "pid" }],
  });
});

Deno.test("annotations make it a container of its pod, and no one else's change runsc", async () => {
  const { document } = await converted(CRI_CONFIG);
  assert.deepEqual(document["annotations"], {
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.sandbox-id": "s1",
  });
});

Deno.test("a container that has no processes of its own has its pod's", async () => {
  assert.equal((await converted(CRI_CONFIG)).sharesPids, false);
  const namespaces = [{ type: "pid", path: "/proc/1/ns/pid" }, { type: "mount" }];
  const shared = await converted({ ...CRI_CONFIG, linux: { namespaces } });
  assert.equal(shared.sharesPids, true);
  assert.deepEqual(objectOf(shared.document, "linux")["namespaces"], [{ type: "mount" }]);
});

Deno.test("/dev/shm is the pod's, unless it is a special one or IPC is not shared", async () => {
  const { document } = await converted(CRI_CONFIG);
  assert.equal(mountAt(document, "/dev/shm")?.["source"], "/pods/s1/shm");
  const large = { ...SHM, options: ["size=1g"] };
  const special = await converted({ ...CRI_CONFIG, mounts: [large] });
  assert.equal(stringOf(mountAt(special.document, "/dev/shm") ?? {}, "source"), "");
  const own = await converted({ ...CRI_CONFIG, linux: { namespaces: [{ type: "ipc" }] } });
  assert.equal(stringOf(mountAt(own.document, "/dev/shm") ?? {}, "source"), "");
});

Deno.test("bind mounts stay, and other file systems of the host do not", async () => {
  const { document } = await converted(CRI_CONFIG);
  assert.deepEqual(mountAt(document, "/data"), {
    destination: "/data",
    type: "bind",
    source: "/srv",
    options: ["rbind", "rprivate", "ro"],
  });
  assert.equal(mountAt(document, "/odd"), undefined);
});

Deno.test("files of the pod are mounted where the container brings none", async () => {
  const own = { destination: "/etc/hosts", type: "bind", source: "/srv/hosts", options: ["bind"] };
  const { document } = await converted({ ...CRI_CONFIG, mounts: [own] }, { readonlyRootfs: true });
  assert.equal(mountAt(document, "/etc/hosts")?.["source"], "/srv/hosts");
  assert.deepEqual(mountAt(document, "/etc/resolv.conf"), {
    destination: "/etc/resolv.conf",
    type: "bind",
    source: "/pods/s1/resolv.conf",
    options: ["rbind", "rprivate", "ro"],
  });
});

Deno.test("a container without a bundle gets its mounts and streams from its specification", async () => {
  const spec = containerSpec("c1", "pod", {
    stdio: TERMINAL,
    mounts: [{ source: "/srv", destination: "/data", readonly: true }],
  });
  const { document } = await containerConfig(spec, SURROUNDINGS);
  assert.equal(objectOf(document, "process")["terminal"], true);
  assert.deepEqual(mountAt(document, "/data")?.["options"], ["rbind", "ro"]);
});

Deno.test("what gVisor would give wrongly is refused with what to do", async () => {
  const refuses = (config: JsonObject, words: RegExp) =>
    assert.rejects(converted(config), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "FailedPrecondition", error.message);
      assert.match(error.message, words);
      return true;
    });
  const mount = { destination: "/data", type: "bind", source: "/srv", options: ["rshared"] };
  await refuses({ ...CRI_CONFIG, mounts: [mount] }, /"c1" in gVisor: .*"\/data".*propagation/);
  const seccomp = { listenerPath: "/run/listener" };
  await refuses({ ...CRI_CONFIG, linux: { seccomp } }, /listenerPath/);
});
