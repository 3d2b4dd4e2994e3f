import { create, type MessageInitShape } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { join } from "node:path";
import { CreateTaskRequestSchema } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { ContainerSpec } from "../sandboxers/lifecycle/spec.ts";
import { readContainerSpec } from "./bundle.ts";
import { GOOD_CONFIG, writeBundle } from "./testing/bundle_directory.ts";

type Request = MessageInitShape<typeof CreateTaskRequestSchema>;

/** A bundle that is removed at the end. */
async function bundleWith(config: unknown = GOOD_CONFIG, sandboxId = "sb1") {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-bundle-" });
  const path = await writeBundle(join(dir, "c1"), { config, sandboxId });
  const remove = () => Deno.remove(dir, { recursive: true });
  return { path, [Symbol.asyncDispose]: remove };
}

function read(request: Request): Promise<ContainerSpec> {
  return readContainerSpec(create(CreateTaskRequestSchema, { id: "c1", ...request }));
}

function isInvalid(promise: Promise<unknown>, text: RegExp): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, "InvalidArgument", error.message);
    assert.match(error.message, text);
    return true;
  });
}

Deno.test("a bundle becomes a ContainerSpec", async () => {
  const config = {
    ...GOOD_CONFIG,
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/etc/hosts", type: "bind", source: "/var/hosts", options: ["rbind", "ro"] },
      { destination: "/data", source: "data", options: ["bind", "ro", "rw"] },
    ],
    linux: {
      resources: {
        memory: { limit: 67108864, swap: 1 },
        cpu: { shares: 512, quota: 50000, period: 100000, cpus: "0-1" },
        pids: { limit: 100 },
        devices: [{ allow: false }],
      },
      namespaces: [{ type: "pid" }],
      seccomp: { defaultAction: "SCMP_ACT_ALLOW", syscalls: [] },
    },
  };
  await using bundle = await bundleWith(config);
  const spec = await read({
    bundle: bundle.path,
    stdin: "",
    stdout: "/run/fifo/out",
    stderr: "/run/fifo/err",
    terminal: false,
    options: { typeUrl: "containerd.runc.v1.Options", value: new Uint8Array([1]) },
  });
  assert.deepEqual(spec, {
    id: "c1",
    sandboxId: "sb1",
    bundle: bundle.path,
    rootfs: { kind: "directory", path: join(bundle.path, "rootfs") },
    readonlyRootfs: true,
    process: {
      args: ["/app.wasm", "--flag"],
      env: ["PATH=/bin", "A=b=c"],
      cwd: "/work",
      user: { uid: 1000, gid: 1001, additionalGids: [5, 6] },
    },
    mounts: [
      { source: "/var/hosts", destination: "/etc/hosts", readonly: true },
      { source: join(bundle.path, "data"), destination: "/data", readonly: false },
    ],
    stdio: {
      stdin: { kind: "null" },
      stdout: { kind: "path", path: "/run/fifo/out" },
      stderr: { kind: "path", path: "/run/fifo/err" },
      terminal: false,
    },
    resources: {
      memoryBytes: 67108864,
      cpuQuotaUs: 50000,
      cpuPeriodUs: 100000,
      cpuShares: 512,
      cpusetCpus: "0-1",
      pids: 100,
    },
    annotations: GOOD_CONFIG.annotations,
    seccomp: { defaultAction: { kind: "allow" }, rules: [] },
  });
});

Deno.test("rootfs mounts are mounted at the bundle's rootfs", async () => {
  await using bundle = await bundleWith();
  const mounts = [
    { type: "overlay", source: "overlay", options: ["lowerdir=/a:/b", "upperdir=/u"] },
    { type: "bind", source: "/x", target: "/", options: [] },
  ];
  const { rootfs } = await read({ bundle: bundle.path, rootfs: mounts });
  assert.deepEqual(rootfs, {
    kind: "mounts",
    target: join(bundle.path, "rootfs"),
    mounts: mounts.map(({ type, source, options }) => ({ type, source, options })),
  });
});

Deno.test("what is optional in a config.json may be missing or null", async () => {
  const config = { process: { args: ["a"], env: null }, root: null, mounts: null, linux: {} };
  await using bundle = await bundleWith(config);
  const spec = await read({ bundle: bundle.path });
  assert.deepEqual(spec.process, {
    args: ["a"],
    env: [],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  });
  assert.deepEqual([spec.mounts, spec.resources, spec.annotations], [[], {}, {}]);
  assert.equal(spec.readonlyRootfs, false);
});

Deno.test("the soft limit of open files is taken, other limits of processes are left out", async () => {
  const rlimits = [
    { type: "RLIMIT_CORE", hard: 0, soft: 0 },
    { type: "RLIMIT_NOFILE", hard: 4096, soft: 100 },
  ];
  const limited = async (limits: unknown) => {
    await using bundle = await bundleWith(processWith({ rlimits: limits }));
    return (await read({ bundle: bundle.path })).process.descriptorsMax;
  };
  assert.equal(await limited(rlimits), 100);
  assert.equal(await limited(rlimits.slice(0, 1)), undefined);
  // No limit, as it is written.
  assert.equal(await limited([{ type: "RLIMIT_NOFILE", soft: 2 ** 64 }]), Number.MAX_SAFE_INTEGER);
});

Deno.test("limits that mean none are left out", async () => {
  const resources = {
    memory: { limit: -1 },
    cpu: { quota: -1, period: 0, shares: 0, cpus: "" },
    pids: { limit: 0 },
  };
  await using bundle = await bundleWith({ ...GOOD_CONFIG, linux: { resources } });
  assert.deepEqual((await read({ bundle: bundle.path })).resources, {});
  const huge = { memory: { limit: 9223372036854771712 } };
  await using other = await bundleWith({ ...GOOD_CONFIG, linux: { resources: huge } });
  assert.deepEqual((await read({ bundle: other.path })).resources, {});
});

const BAD_IDS = ["", ".", "..", "a/b", "../x", "a\0", "-a", "a b", "x".repeat(129)];

Deno.test("ids that cannot be a file name are refused", async () => {
  await using bundle = await bundleWith();
  for (const id of BAD_IDS) {
    await isInvalid(read({ id, bundle: bundle.path }), /invalid container id/);
  }
});

Deno.test("sandbox ids that cannot be a file name are refused", async () => {
  for (const id of ["", "..", "a/b", "sb1\n"]) {
    await using bundle = await bundleWith(GOOD_CONFIG, id);
    await isInvalid(read({ bundle: bundle.path }), /sandbox id in ".*\/sandbox"/);
  }
});

Deno.test("a bundle must be an absolute path of a directory that is there", async () => {
  const file = await Deno.makeTempFile();
  for (const bundle of ["", "relative/path", "/a\0b"]) {
    await isInvalid(read({ bundle }), /expected an absolute path/);
  }
  await isInvalid(read({ bundle: "/nonexistent/bundle" }), /is not there/);
  await isInvalid(read({ bundle: file }), /is no directory/);
  await isInvalid(read({ bundle: `${file}/below` }), /is not there/);
  await Deno.remove(file);
});

Deno.test("config.json must be there, a file, small, UTF-8 and JSON", async () => {
  await using bundle = await bundleWith();
  const config = join(bundle.path, "config.json");
  const invalid = (text: RegExp) => isInvalid(read({ bundle: bundle.path }), text);

  await Deno.writeTextFile(config, "{ not json");
  await invalid(/config\.json": it is not JSON/);
  await Deno.writeTextFile(config, "");
  await invalid(/it is not JSON/);
  await Deno.writeFile(config, new Uint8Array([0x22, 0xff, 0xfe, 0x22]));
  await invalid(/it is not UTF-8 text/);
  await Deno.truncate(config, (8 << 20) + 1);
  await invalid(/8388609 bytes, at most 8388608 are allowed/);
  await Deno.remove(config);
  await invalid(/config\.json": it is missing/);
  await Deno.mkdir(config);
  await invalid(/it is no regular file/);
});

Deno.test("a config.json or sandbox file that is a FIFO does not hold the caller up", async () => {
  for (const name of ["config.json", "sandbox"]) {
    await using bundle = await bundleWith();
    const path = join(bundle.path, name);
    await Deno.remove(path);
    const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
    assert.ok(success);
    await isInvalid(read({ bundle: bundle.path }), /it is no regular file/);
  }
});

Deno.test("a bundle without a sandbox file is refused", async () => {
  await using bundle = await bundleWith();
  await Deno.remove(join(bundle.path, "sandbox"));
  await isInvalid(read({ bundle: bundle.path }), /sandbox": it is missing/);
  await Deno.writeTextFile(join(bundle.path, "sandbox"), "x".repeat(2000));
  await isInvalid(read({ bundle: bundle.path }), /2000 bytes, at most 1024/);
});

/** A config with some of its process replaced. */
function processWith(change: unknown): unknown {
  return { ...GOOD_CONFIG, process: Object.assign({ ...GOOD_CONFIG.process }, change) };
}

const BAD_CONFIGS: readonly (readonly [unknown, RegExp])[] = [
  [[], /found \[\], expected an object/],
  [null, /found null, expected an object/],
  ["text", /found "text", expected an object/],
  [{}, /process is missing/],
  [{ process: 5 }, /process: found 5, expected an object/],
  [{ process: {} }, /process\.args is missing/],
  [processWith({ args: null }), /process\.args is missing/],
  [processWith({ args: [] }), /process\.args: found \[\], expected a command/],
  [processWith({ args: "sh" }), /process\.args: found "sh", expected a list/],
  [processWith({ args: ["sh", 5] }), /process\.args\[1\]: found 5, expected a string/],
  [processWith({ args: ["a\0b"] }), /process\.args\[0\]: .* without NUL/],
  [processWith({ env: {} }), /process\.env: found \{\}, expected a list/],
  [processWith({ env: ["A"] }), /process\.env\[0\]: found "A", expected a variable as KEY=value/],
  [processWith({ env: ["=A"] }), /process\.env\[0\]: .* KEY=value/],
  [processWith({ cwd: "work" }), /process\.cwd: found "work", expected an absolute path/],
  [processWith({ cwd: 1 }), /process\.cwd: found 1, expected a string/],
  [processWith({ user: "root" }), /process\.user: found "root", expected an object/],
  [processWith({ user: { uid: -1 } }), /process\.user\.uid: found -1, expected an integer from 0/],
  [processWith({ user: { gid: 1.5 } }), /process\.user\.gid: found 1\.5, expected an integer/],
  [processWith({ user: { additionalGids: ["x"] } }), /additionalGids\[0\]: found "x"/],
  [processWith({ rlimits: [{}] }), /rlimits\[0\]\.type is missing/],
  [processWith({ rlimits: [{ type: "RLIMIT_NOFILE" }] }), /rlimits\[0\]\.soft is missing/],
  [processWith({ rlimits: [{ type: "RLIMIT_NOFILE", soft: -1 }] }), /soft: found -1, expected/],
  [{ ...GOOD_CONFIG, root: 1 }, /root: found 1, expected an object/],
  [{ ...GOOD_CONFIG, root: { path: 1 } }, /root\.path: found 1, expected a string/],
  [{ ...GOOD_CONFIG, root: { readonly: "yes" } }, /root\.readonly: found "yes", expected true/],
  [{ ...GOOD_CONFIG, annotations: { a: 1 } }, /annotations\.a: found 1, expected a string/],
  [{ ...GOOD_CONFIG, annotations: ["a"] }, /annotations: found \["a"\], expected an object/],
  [{ ...GOOD_CONFIG, mounts: {} }, /mounts: found \{\}, expected a list/],
  [mountOf({ type: "proc" }), /mounts\[0\]\.destination is missing/],
  [mountOf({ destination: "proc", type: "proc" }), /destination: found "proc", expected an absol/],
  [mountOf({ destination: "/x", type: "nfs" }), /type: found "nfs", expected a bind mount/],
  [mountOf({ destination: "/x" }), /mounts\[0\]: found .*, expected a bind mount/],
  [mountOf({ destination: "/x", type: "bind" }), /mounts\[0\]\.source is missing/],
  [
    mountOf({ destination: "/x", type: "bind", source: "/a", options: "ro" }),
    /options: found "ro"/,
  ],
  [resourcesOf({ memory: { limit: "1G" } }), /memory\.limit: found "1G", expected an integer/],
  [resourcesOf({ cpu: { shares: 0.5 } }), /cpu\.shares: found 0\.5, expected an integer/],
  [resourcesOf({ cpu: { cpus: 3 } }), /cpu\.cpus: found 3, expected a string/],
  [resourcesOf({ pids: [] }), /resources\.pids: found \[\], expected an object/],
  [resourcesOf([]), /linux\.resources: found \[\], expected an object/],
];

function mountOf(mount: unknown): unknown {
  return { ...GOOD_CONFIG, mounts: [mount] };
}

function resourcesOf(resources: unknown): unknown {
  return { ...GOOD_CONFIG, linux: { resources } };
}

for (const [config, expected] of BAD_CONFIGS) {
  const shown = JSON.stringify(config).replace(JSON.stringify(GOOD_CONFIG).slice(1, -1), "");
  Deno.test(`config.json is refused: ${expected.source} (${shown.length} bytes)`, async () => {
    await using bundle = await bundleWith(config);
    await isInvalid(read({ bundle: bundle.path }), expected);
  });
}

Deno.test("rootfs mounts that cannot be made are refused by name", async () => {
  await using bundle = await bundleWith();
  const invalid = (
    mount: MessageInitShape<typeof CreateTaskRequestSchema>["rootfs"],
    text: RegExp,
  ) => isInvalid(read({ bundle: bundle.path, rootfs: mount ?? [] }), text);
  await invalid(
    [{ type: "ext4", source: "/dev/x" }],
    /rootfs\[0\]\.type: found "ext4", expected ov/,
  );
  await invalid([{ type: "", source: "/x" }], /rootfs\[0\]\.type: found ""/);
  await invalid([{ type: "bind", source: "" }], /rootfs\[0\]\.source: found ""/);
  await invalid([{ type: "bind", source: "/a\0" }], /source: .*NUL/);
  await invalid([{ type: "bind", source: "/a", target: "/sub" }], /target: found "\/sub"/);
  await invalid([{ type: "bind", source: "/a", options: ["ro", "x\0"] }], /options\[1\]: .*NUL/);
});

Deno.test("streams that are no paths are refused by name, with what to do", async () => {
  await using bundle = await bundleWith();
  const refused = (streams: Request, text: RegExp) =>
    isInvalid(read({ bundle: bundle.path, ...streams }), text);
  await refused({ stdout: "file:///var/log/x" }, /stdout: found "file:.*file URLs are not supp/);
  await refused({ stderr: "binary:///bin/logger?a=b" }, /stderr: .*binary URLs are not supported/);
  await refused(
    { stdin: "ttrpc+unix:///run/x.sock?streaming_id=c1-stdin" },
    /stdin: .*ttrpc\+unix URLs are not supported.* set it to "fifo"/,
  );
  await refused({ stdout: "relative/fifo" }, /stdout: .*expected an absolute path or nothing/);
  await refused({ stdout: "/a\0b" }, /stdout: /);
});

Deno.test("restoring a checkpoint is refused", async () => {
  await using bundle = await bundleWith();
  const call = read({ bundle: bundle.path, checkpoint: "/var/checkpoint" });
  await isInvalid(call, /checkpoints are not supported/);
});

Deno.test("a long value is cut in the message", async () => {
  await using bundle = await bundleWith(processWith({ cwd: "x".repeat(100_000) }));
  await assert.rejects(read({ bundle: bundle.path }), (error: Error) => error.message.length < 400);
});
