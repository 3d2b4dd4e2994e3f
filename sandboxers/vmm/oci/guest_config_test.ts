import assert from "node:assert/strict";
import type { JsonObject } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, ProcessSpec } from "../../lifecycle/spec.ts";
import { containerSpec } from "../../lifecycle/testing/specs.ts";
import { guestContainer, guestProcess, guestResources } from "./guest_config.ts";

const CAPABILITIES = {
  bounding: ["CAP_CHOWN"],
  effective: ["CAP_CHOWN"],
  permitted: ["CAP_CHOWN"],
};
const SECCOMP = {
  defaultAction: "SCMP_ACT_ERRNO",
  architectures: ["SCMP_ARCH_X86_64"],
  syscalls: [{ names: ["read"], action: "SCMP_ACT_ALLOW" }],
};

/** As containerd 2.1 writes it for a container in a pod of a proxy sandboxer, shortened. */
const CRI_CONFIG = {
  ociVersion: "1.2.1",
  process: {
    user: { uid: 1000, gid: 1000, additionalGids: [1000, 2000] },
    args: ["/bin/app"],
    env: ["PATH=/bin"],
    cwd: "/",
    capabilities: CAPABILITIES,
    noNewPrivileges: true,
    apparmorProfile: "cri-containerd.apparmor.d",
    selinuxLabel: "system_u:system_r:container_t:s0",
    oomScoreAdj: 1000,
  },
  root: { path: "rootfs", readonly: true },
  hostname: "pod",
  mounts: [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid"] },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
    {
      destination: "/dev/shm",
      type: "tmpfs",
      source: "shm",
      options: ["nosuid", "mode=1777", "size=65536k"],
    },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro"] },
    { destination: "/data", type: "bind", source: "/srv", options: ["rbind", "rprivate", "ro"] },
  ],
  hooks: { createRuntime: [{ path: "/usr/bin/hook" }] },
  annotations: { "io.kubernetes.cri.container-type": "container" },
  linux: {
    resources: {
      devices: [{ allow: false, access: "rwm" }],
      memory: { limit: 67108864, swap: 67108864, swappiness: 0 },
      cpu: { shares: 512, quota: 50000, period: 100000, cpus: "0-3", mems: "0" },
      pids: { limit: 100 },
      blockIO: { weight: 10 },
    },
    cgroupsPath: "/kubepods/pod1/c1",
    namespaces: [
      { type: "pid" },
      { type: "ipc", path: "/proc/0/ns/ipc" },
      { type: "uts", path: "/proc/0/ns/uts" },
      { type: "mount" },
      { type: "network", path: "/proc/0/ns/net" },
    ],
    seccomp: SECCOMP,
    maskedPaths: ["/proc/kcore"],
    readonlyPaths: ["/proc/sys"],
    mountLabel: "x",
    rootfsPropagation: "rslave",
  },
};

const SPEC: Partial<ContainerSpec> = {
  readonlyRootfs: true,
  mounts: [{ source: "/srv", destination: "/data", readonly: true }],
};

/** The configuration that comes of a config.json. */
async function converted(config: unknown, changes: Partial<ContainerSpec> = {}, cpus = 1) {
  const bundle = await Deno.makeTempDir({ prefix: "quasaur-oci-" });
  try {
    const text = typeof config === "string" ? config : JSON.stringify(config);
    await Deno.writeTextFile(`${bundle}/config.json`, text);
    return await guestContainer(containerSpec("c1", "pod", { bundle, ...SPEC, ...changes }), {
      cpus,
    });
  } finally {
    await Deno.remove(bundle, { recursive: true });
  }
}

/** The configuration with another `linux`. */
function withLinux(changes: JsonObject) {
  return { ...CRI_CONFIG, linux: { ...CRI_CONFIG.linux, ...changes } };
}

function linuxOf({ config }: { readonly config: JsonObject }): JsonObject {
  const { linux } = config;
  assert.ok(typeof linux === "object" && linux !== null && !Array.isArray(linux));
  // Narrowed above to what is neither null nor a list.
  return linux as JsonObject;
}

async function refuses(promise: Promise<unknown>, code: string, words: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  });
}

Deno.test("a container's config is handed on without what is the host's", async () => {
  const { config, pidNamespace } = await converted(CRI_CONFIG);
  const { process: { apparmorProfile: _a, selinuxLabel: _s, ...process } } = CRI_CONFIG;
  const [proc, dev, , sys] = CRI_CONFIG.mounts;
  assert.deepEqual(config, {
    ociVersion: "1.2.1",
    process,
    root: { path: "rootfs", readonly: true },
    mounts: [proc, dev, sys],
    linux: {
      seccomp: SECCOMP,
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      namespaces: [{ type: "mount" }, { type: "cgroup" }, { type: "pid" }],
      devices: [],
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        memory: { limit: 67108864, swap: 67108864 },
        cpu: { shares: 512, quota: 50000, period: 100000 },
        pids: { limit: 100 },
      },
    },
  });
  assert.equal(pidNamespace, "own");
});

Deno.test("a container shares /dev/shm and the files of names with its pod, unless it brings its own", async () => {
  const kinds = async (changes: Partial<ContainerSpec>, config: unknown = CRI_CONFIG) =>
    (await converted(config, changes)).mounts.map(({ kind, destination, readonly }) =>
      `${kind} ${destination} ${readonly ? "ro" : "rw"}`
    );
  assert.deepEqual(await kinds({ readonlyRootfs: false }), [
    "shm /dev/shm rw",
    "podFile /etc/hosts rw",
    "podFile /etc/hostname rw",
    "podFile /etc/resolv.conf rw",
  ]);
  const hosts = { source: "/x/etc-hosts", destination: "/etc/hosts", readonly: false };
  assert.deepEqual(await kinds({ mounts: [hosts] }), [
    "shm /dev/shm rw",
    "podFile /etc/hostname ro",
    "podFile /etc/resolv.conf ro",
  ]);
  const big = { destination: "/dev/shm", type: "tmpfs", source: "shm", options: ["size=1g"] };
  const { mounts, config } = await converted({ ...CRI_CONFIG, mounts: [big] });
  assert.ok(mounts.every(({ kind }) => kind === "podFile"));
  assert.deepEqual(config["mounts"], [big], "one of another size stays the container's");
});

Deno.test("a process id namespace that is shared is the pod's", async () => {
  const shared = [{ type: "pid", path: "/proc/7/ns/pid" }, { type: "mount" }];
  assert.equal((await converted(withLinux({ namespaces: shared }))).pidNamespace, "pod");
  const none = await converted(withLinux({ namespaces: [{ type: "mount" }] }));
  assert.equal(none.pidNamespace, "pod");
});

Deno.test("CPUs by number are kept where the guest has them", async () => {
  const cpu = (result: { readonly config: JsonObject }) =>
    JSON.stringify(linuxOf(result)["resources"]).match(/"cpus":"([^"]*)"/)?.[1];
  assert.equal(cpu(await converted(CRI_CONFIG, {}, 4)), "0-3");
  assert.equal(cpu(await converted(CRI_CONFIG, {}, 3)), undefined);
});

Deno.test("a device of the host is refused, one that every kernel has is not", async () => {
  const fuse = { path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o666 };
  assert.deepEqual(linuxOf(await converted(withLinux({ devices: [fuse] })))["devices"], [fuse]);
  const disk = { path: "/dev/sda", type: "b", major: 8, minor: 0 };
  await refuses(
    converted(withLinux({ devices: [fuse, disk] })),
    "FailedPrecondition",
    /container "c1" in a microVM: device "\/dev\/sda" \(8:0\) of the host/,
  );
});

Deno.test("a privileged container has all devices of its machine, and none of the host", async () => {
  const devices = [
    { path: "/dev/fuse", type: "c", major: 10, minor: 229 },
    { path: "/dev/sda", type: "b", major: 8, minor: 0 },
  ];
  const resources = { devices: [{ allow: false, access: "rwm" }, { allow: true, access: "rwm" }] };
  const linux = linuxOf(await converted(withLinux({ devices, resources })));
  assert.deepEqual(linux["devices"], devices.slice(0, 1));
  assert.deepEqual(linux["resources"], resources);
});

Deno.test("what would be given wrongly without a word is refused", async () => {
  const [mount] = CRI_CONFIG.mounts;
  const shared = { ...mount, destination: "/csi", options: ["rbind", "rshared"] };
  await refuses(
    converted({ ...CRI_CONFIG, mounts: [shared] }),
    "FailedPrecondition",
    /"\/csi" cannot reach the host: set the mount's propagation/,
  );
  await refuses(
    converted(withLinux({ seccomp: { ...SECCOMP, listenerPath: "/run/x.sock" } })),
    "FailedPrecondition",
    /listenerPath/,
  );
});

Deno.test("numbers of 64 bits mean the same afterwards", async () => {
  const text = JSON.stringify(CRI_CONFIG).replace(
    `"oomScoreAdj":1000`,
    `"rlimits":[{"type":"RLIMIT_MEMLOCK","soft":18446744073709551615,"hard":9223372036854775807}]`,
  );
  const { config } = await converted(text);
  const shown = JSON.stringify(config["process"]);
  assert.match(shown, /"soft":-1,/);
  const [, hard = ""] = /"hard":(\d+)/.exec(shown) ?? [];
  assert.ok(BigInt(hard) < 2n ** 63n && BigInt(hard) > 2n ** 62n, hard);
  await refuses(
    converted(text.replace("18446744073709551615", "18446744073709551616")),
    "InvalidArgument",
    /cannot be handed on exactly/,
  );
});

Deno.test("a config.json that cannot be read is said with its path", async () => {
  await refuses(converted("{"), "InvalidArgument", /config\.json": it is not JSON/);
  await refuses(converted("[]"), "InvalidArgument", /config\.json": it is no object/);
  await refuses(
    converted(withLinux({ namespaces: "none" })),
    "InvalidArgument",
    /namespaces: found "none", expected a list/,
  );
  const missing = containerSpec("c1", "pod", { bundle: "/no/such/bundle" });
  await refuses(
    guestContainer(missing, { cpus: 1 }),
    "InvalidArgument",
    /"\/no\/such\/bundle\/config\.json": no such file/,
  );
});

Deno.test("without a bundle a container gets what runc gives by default", async () => {
  const process: ProcessSpec = {
    args: ["/bin/sh"],
    env: ["A=b"],
    cwd: "/tmp",
    user: { uid: 5, gid: 6, additionalGids: [7] },
    descriptorsMax: 100,
  };
  const { config, mounts, pidNamespace } = await guestContainer(
    containerSpec("c1", "pod", {
      process,
      resources: { memoryBytes: 1 << 20, cpuQuotaUs: 1000, cpusetCpus: "9", pids: 5 },
      seccomp: {
        defaultAction: { kind: "deny", errno: 1 },
        rules: [{
          names: ["personality"],
          action: { kind: "allow" },
          args: [{ index: 0, operator: "masked-eq", value: "8", valueTwo: "9" }],
        }],
      },
    }),
    { cpus: 1 },
  );
  const { capabilities, ...rest } = JSON.parse(JSON.stringify(config["process"]));
  assert.deepEqual(rest, {
    args: ["/bin/sh"],
    env: ["A=b"],
    cwd: "/tmp",
    user: { uid: 5, gid: 6, additionalGids: [7] },
    rlimits: [{ type: "RLIMIT_NOFILE", soft: 100, hard: 100 }],
  });
  assert.ok(capabilities.bounding.includes("CAP_CHOWN"));
  assert.ok(!capabilities.bounding.includes("CAP_SYS_ADMIN"));
  const linux = JSON.parse(JSON.stringify(config["linux"]));
  assert.ok(linux.maskedPaths.includes("/proc/kcore"));
  assert.ok(linux.readonlyPaths.includes("/proc/sys"));
  assert.deepEqual(linux.resources, {
    devices: [{ allow: false, access: "rwm" }],
    memory: { limit: 1 << 20 },
    cpu: { quota: 1000 },
    pids: { limit: 5 },
  });
  assert.deepEqual([linux.seccomp.defaultAction, linux.seccomp.defaultErrnoRet], [
    "SCMP_ACT_ERRNO",
    1,
  ]);
  assert.deepEqual(linux.seccomp.syscalls, [{
    names: ["personality"],
    action: "SCMP_ACT_ALLOW",
    args: [{ index: 0, value: 8, valueTwo: 9, op: "SCMP_CMP_MASKED_EQ" }],
  }]);
  assert.deepEqual(mounts.map(({ kind }) => kind), ["shm", "podFile", "podFile", "podFile"]);
  assert.equal(pidNamespace, "own");
});

Deno.test("an exec has the rights that it was given, or those of its container", () => {
  const process: ProcessSpec = {
    args: ["/bin/id"],
    env: [],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  };
  const empty = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] };
  assert.deepEqual(
    guestProcess({
      ...process,
      capabilities: empty,
      noNewPrivileges: true,
      rlimits: [{ type: "RLIMIT_CORE", soft: 0, hard: -1 }],
      umask: 0o77,
      oomScoreAdjust: 5,
    }, true),
    {
      args: ["/bin/id"],
      env: [],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [], umask: 0o77 },
      capabilities: empty,
      noNewPrivileges: true,
      rlimits: [{ type: "RLIMIT_CORE", soft: 0, hard: -1 }],
      oomScoreAdj: 5,
      terminal: true,
    },
  );
  assert.match(JSON.stringify(guestProcess(process, false)), /CAP_CHOWN/);
});

Deno.test("new limits leave out CPUs by number", () => {
  assert.deepEqual(
    guestResources({ memoryBytes: 5, cpuShares: 2, cpuPeriodUs: 9, cpusetCpus: "0", pids: 1 }),
    { memory: { limit: 5 }, cpu: { period: 9, shares: 2 }, pids: { limit: 1 } },
  );
  assert.deepEqual(guestResources({}), {});
});
