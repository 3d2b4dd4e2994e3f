import assert from "node:assert/strict";
import type { Json, JsonObject } from "../protocol/messages.ts";
import {
  type BindMount,
  containerSysctls,
  crunConfig,
  crunProcess,
  type GuestFacts,
  mergeMounts,
} from "./oci.ts";

const FACTS: GuestFacts = {
  rootfs: "/run/rootfs/c1/root",
  mounts: [],
  cgroupsPath: "/containers/c1",
  pidNamespace: undefined,
  terminal: undefined,
  device: (path) => (path === "/dev/fuse" ? { major: 10, minor: 229 } : undefined),
  hasHugePages: (size) => size === "2MB",
};

const SECCOMP = { defaultAction: "SCMP_ACT_ALLOW" };

/** As containerd writes it, with what only means something on the host. */
const HOST_CONFIG: JsonObject = {
  ociVersion: "1.2.0",
  process: {
    args: ["sh"],
    cwd: "/",
    apparmorProfile: "cri-containerd.apparmor.d",
    selinuxLabel: "a:b",
    rlimits: [{ type: "RLIMIT_CORE", soft: 0, hard: 0 }],
    noNewPrivileges: true,
  },
  root: { path: "/of/the/host", readonly: true },
  hostname: "host",
  domainname: "host",
  hooks: { prestart: [{ path: "/bin/evil" }] },
  annotations: { "run.oci.handler": "krun" },
  mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
  linux: {
    namespaces: [{ type: "pid" }, { type: "network", path: "/proc/7/ns/net" }, { type: "user" }],
    uidMappings: [{ containerID: 0, hostID: 1000, size: 1 }],
    cgroupsPath: "/kubepods/pod1/c1",
    sysctl: { "net.core.somaxconn": "1" },
    seccomp: SECCOMP,
    maskedPaths: ["/proc/kcore"],
    devices: [
      { path: "/dev/fuse", type: "c", major: 1, minor: 2, fileMode: 0o666 },
      { path: "/dev/sda", type: "b", major: 8, minor: 0 },
    ],
    resources: {
      cpu: { shares: 2, quota: 5, cpus: "0-7", mems: "0" },
      memory: { limit: 5, swappiness: 3, kernel: 1 },
      hugepageLimits: [{ pageSize: "2MB", limit: 0 }, { pageSize: "1GB", limit: 0 }],
      blockIO: { weight: 3 },
      devices: [{ allow: false, access: "rwm" }],
    },
  },
};

Deno.test("the configuration for crun holds inside of the guest", () => {
  assert.deepEqual(crunConfig(HOST_CONFIG, FACTS), {
    ociVersion: "1.2.0",
    process: {
      args: ["sh"],
      cwd: "/",
      noNewPrivileges: true,
      rlimits: [
        { type: "RLIMIT_CORE", soft: 0, hard: 0 },
        { type: "RLIMIT_NOFILE", soft: 1024, hard: 524_288 },
      ],
    },
    root: { path: "/run/rootfs/c1/root", readonly: true },
    mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
    linux: {
      namespaces: [{ type: "mount" }, { type: "cgroup" }, { type: "pid" }],
      cgroupsPath: "/containers/c1",
      seccomp: SECCOMP,
      maskedPaths: ["/proc/kcore"],
      devices: [{ path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o666 }],
      resources: {
        cpu: { shares: 2, quota: 5 },
        memory: { limit: 5 },
        hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
        devices: [{ allow: false, access: "rwm" }],
      },
    },
  });
});

Deno.test("a shared pid name space is joined by its path", () => {
  const config = crunConfig(HOST_CONFIG, { ...FACTS, pidNamespace: "/proc/50/ns/pid" });
  const linux = config["linux"];
  assert.ok(typeof linux === "object" && linux !== null && "namespaces" in linux);
  assert.deepEqual(linux["namespaces"], [
    { type: "mount" },
    { type: "cgroup" },
    { type: "pid", path: "/proc/50/ns/pid" },
  ]);
});

Deno.test("a terminal comes with its size, and only when it was asked for", () => {
  const process = { args: ["sh"], terminal: true, consoleSize: { width: 1, height: 1 } };
  const withOne = crunProcess(process, { columns: 80, rows: 24 });
  assert.deepEqual([withOne["terminal"], withOne["consoleSize"]], [true, {
    width: 80,
    height: 24,
  }]);
  assert.deepEqual(Object.keys(crunProcess(process, undefined)).sort(), ["args", "rlimits"]);
});

Deno.test("a limit of open files that was asked for is kept", () => {
  const rlimits = [{ type: "RLIMIT_NOFILE", soft: 5, hard: 6 }];
  assert.deepEqual(crunProcess({ rlimits }, undefined)["rlimits"], rlimits);
});

Deno.test("kernel settings of a container are those that are texts", () => {
  assert.deepEqual(containerSysctls(HOST_CONFIG), { "net.core.somaxconn": "1" });
  assert.deepEqual(containerSysctls({ linux: { sysctl: { a: 1 } } }), {});
  assert.deepEqual(containerSysctls({}), {});
});

Deno.test("mounts come from the top of the tree to its leaves, and the guest's win", () => {
  const config: Json[] = [
    { destination: "/proc", type: "proc" },
    { destination: "/dev", type: "tmpfs" },
    { destination: "/dev/pts", type: "devpts" },
    { destination: "/dev/shm/", type: "tmpfs" },
    "nonsense",
  ];
  const binds: BindMount[] = [
    { destination: "/data/deep/er", source: "/c", readonly: true },
    { destination: "/dev/shm", source: "/shm", readonly: false, options: ["nosuid"] },
    { destination: "/data", source: "/a", readonly: false },
    { destination: "/data//deep", source: "/b", readonly: false },
  ];
  assert.deepEqual(
    mergeMounts(config, binds).map((mount) =>
      typeof mount === "object" && mount !== null && "destination" in mount
        ? [mount["destination"], mount["source"] ?? "", mount["options"] ?? []]
        : mount
    ),
    [
      ["/proc", "", []],
      ["/dev", "", []],
      ["/data", "/a", ["rbind", "rprivate", "rw"]],
      ["/dev/pts", "", []],
      ["/dev/shm", "/shm", ["rbind", "rprivate", "rw", "nosuid"]],
      ["/data//deep", "/b", ["rbind", "rprivate", "rw"]],
      ["/data/deep/er", "/c", ["rbind", "rprivate", "ro"]],
    ],
  );
});
