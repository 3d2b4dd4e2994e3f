import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { WaitResponseSchema } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import {
  parseQuarkProcess,
  parseQuarkSpec,
} from "../../../tests/support/quark_double/quark_spec.ts";
import { assertFails } from "../../host/testing/fixture.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { containerSpec, execSpec, sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { containerConfig, quarkExecProcess } from "./container_config.ts";
import { kernelError } from "./kernel_error.ts";
import { containerName, podPlaces, sandboxName } from "./names.ts";
import { exitOf } from "./process.ts";
import { sandboxConfig } from "./sandbox_config.ts";

const FULL = "0123456789abcdef".repeat(4);
/** What Quark would give up at, and containerd writes. */
const YOUNG = {
  ociVersion: "1.2.0",
  hostname: "box",
  process: {
    args: ["sh"],
    cwd: "/",
    env: ["A=b"],
    user: { uid: 7, gid: 8, umask: 18, additionalGids: [9] },
    capabilities: { bounding: ["CAP_BPF", "CAP_KILL"], effective: ["CAP_PERFMON"] },
    rlimits: [
      { type: "RLIMIT_NOFILE", soft: 1024, hard: "NO LIMIT" },
      { type: "RLIMIT_YOUNG", soft: 1, hard: 1 },
    ],
    apparmorProfile: "profile",
    ioPriority: { class: "IOPRIO_CLASS_IDLE" },
  },
  root: { path: "/elsewhere" },
  mounts: [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid"] },
    { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"] },
    { destination: "/data", type: "bind", source: "/host", options: ["rbind", "ro"] },
    { destination: "/own", source: "/host", options: ["bind"] },
    { destination: "/fuse", type: "fuse", source: "fuse" },
  ],
  hooks: { createRuntime: [{ path: "/hook" }] },
  linux: {
    namespaces: [{ type: "pid" }, { type: "time" }, { type: "network", path: "/run/netns/a" }],
    resources: {
      devices: [{ allow: false, access: "rwm" }],
      memory: { limit: 1000, swap: -1, disableOOMKiller: false },
      cpu: { shares: 2, burst: 5, idle: 1 },
      unified: { "memory.high": "1" },
    },
    seccomp: { defaultAction: "SCMP_ACT_KILL_PROCESS" },
    personality: { domain: "LINUX" },
    maskedPaths: ["/proc/kcore"],
  },
};

async function bundleOf(document: unknown): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-quark-config-" });
  const text = JSON.stringify(document).replace('"NO LIMIT"', "18446744073709551615");
  await Deno.writeTextFile(`${path}/config.json`, text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("a container's configuration has only what Quark can read, and what is left for it", async () => {
  await using bundle = await bundleOf(YOUNG);
  assert.throws(() => parseQuarkSpec(JSON.stringify(YOUNG)), /CAP_BPF/);
  const spec = containerSpec("c1", "pod", { bundle: bundle.path, annotations: { a: "b" } });
  const { config, mountPoints } = await containerConfig(spec, FULL);
  const read = parseQuarkSpec(JSON.stringify(config));
  assert.deepEqual(read.mounts.map(({ destination }) => destination), ["/proc", "/sys/fs/cgroup"]);
  assert.deepEqual(mountPoints, ["/proc"]);
  assert.deepEqual(read.process.user, { uid: 7, gid: 8 });
  assert.deepEqual(read.linux?.namespaces.map(({ type }) => type), ["pid", "network"]);
  assert.deepEqual(read.annotations, {
    a: "b",
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.sandbox-id": FULL,
  });
  assert.deepEqual(config["root"], { path: "rootfs", readonly: false });
  const text = JSON.stringify(config);
  assert.doesNotMatch(text, /BPF|YOUNG|hook|seccomp|apparmor|devices|unified|burst|idle/);
});

Deno.test("what Quark would give wrongly is refused", async () => {
  const mounts = [{ destination: "/d", type: "bind", source: "/s", options: ["rbind", "rshared"] }];
  await using bundle = await bundleOf({ ...YOUNG, mounts });
  const spec = containerSpec("c1", "pod", { bundle: bundle.path });
  await assertFails(containerConfig(spec, FULL), "FailedPrecondition", /"c1" in Quark.*"\/d"/);
});

Deno.test("a container without a bundle, an exec and a sandbox have what Quark can read", async () => {
  const { config } = await containerConfig(containerSpec("c1", "pod"), FULL);
  assert.equal(parseQuarkSpec(JSON.stringify(config)).root.path, "rootfs");
  const { process } = execSpec("e1");
  const rlimits = [{ type: "RLIMIT_CORE", soft: -1, hard: -1 }];
  const exec = quarkExecProcess({ ...process, rlimits }, true);
  assert.deepEqual(parseQuarkProcess(exec).args, process.args);
  assert.equal(exec["terminal"], true);
  const pod = sandboxSpec("pod", {
    hostname: "box",
    network: { kind: "namespace", path: "/run/netns/a" },
    resources: { cpuQuotaUs: 150_000, cpuPeriodUs: 100_000, memoryBytes: 1 << 28 },
  });
  const { linux, root } = parseQuarkSpec(JSON.stringify(sandboxConfig(pod, FULL)));
  assert.deepEqual(linux?.namespaces, [{ type: "network", path: "/run/netns/a" }]);
  assert.equal(root.path, "rootfs");
});

Deno.test("names are such that Quark takes them", () => {
  assert.equal(sandboxName(FULL), FULL);
  assert.match(sandboxName("pod"), /^[0-9a-f]{64}$/);
  assert.equal(sandboxName("pod"), sandboxName("pod"));
  assert.equal(containerName(FULL, new Set()), FULL);
  assert.notEqual(containerName(FULL, new Set([FULL])), FULL);
  assert.match(containerName("config.json", new Set()), /^[0-9a-f]{64}$/);
  const { socket } = podPlaces("/run/quasaur/quark/quark", "x".repeat(128));
  assert.ok(socket.length <= 107, socket);
});

Deno.test("the status of a process is read as wait(2) has it", () => {
  const status = (exitStatus: number) => {
    const { status, reason } = exitOf(create(WaitResponseSchema, { exitStatus }));
    return [status, reason];
  };
  assert.deepEqual(status(0), [0, "exited"]);
  assert.deepEqual(status(1 << 8), [1, "exited"]);
  assert.deepEqual(status(255 << 8), [255, "exited"]);
  assert.deepEqual(status(9), [137, "signaled"]);
  assert.deepEqual(status(11 | 0x80), [139, "signaled"]);
  const exitedAt = { seconds: 3n, nanos: 5_000_000 };
  assert.equal(exitOf(create(WaitResponseSchema, { exitedAt })).at, 3_005);
});

Deno.test("what Quark answers is no answer about the caller's ids", () => {
  const of = (code: ConstructorParameters<typeof SandboxError>[0], message = "no") =>
    kernelError(new SandboxError(code, message), "cannot do it");
  assert.equal(of("NotFound").code, "Internal");
  assert.equal(of("Unavailable").code, "Unavailable");
  assert.equal(of("Unknown", 'Unimplemented("x")').code, "Unimplemented");
  assert.equal(of("NotFound", "Task/Pause is not supported").code, "Unimplemented");
  assert.equal(of("Unknown").message, "cannot do it: Quark says: no");
});
