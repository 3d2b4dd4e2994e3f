import assert from "node:assert/strict";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { QUARK_CONFIG } from "../sandboxers/quark/config/load.ts";
import { VMM_CONFIG } from "../sandboxers/vmm/config/load.ts";
import { doctorCommand, examine } from "./doctor.ts";
import { cniPlacesOf } from "./doctor/cni_places.ts";
import { DOCTOR_KINDS, type Finding, verdictsOf } from "./doctor/finding.ts";
import type { DoctorHost } from "./doctor/host.ts";
import { NO_COLOURS } from "./show/colours.ts";
import { UsageError } from "./usage_error.ts";
import { VERSION } from "./version.ts";

const FACTS = {
  bootId: "b",
  kvm: true,
  kvmPvm: false,
  vhostVsock: true,
  kernel: "6.1.0",
  pageBytes: 4096,
  freeHugePages: 0,
  hugePageBytes: 0,
};

const KERNEL_FILES: Readonly<Record<string, string>> = {
  "/proc/sys/kernel/osrelease": "6.1.0\n",
  "/proc/self/status": "CapEff:\t000001ffffffffff\n",
  "/proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ntmpfs /run tmpfs rw 0 0\n",
  "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
};

const PROGRAMS: Readonly<Record<string, string>> = {
  "/usr/bin/containerd": "containerd github.com/containerd/containerd 2.1.4 abc",
  "/usr/bin/mkfs.erofs": "mkfs.erofs (erofs-utils) 1.9.4",
};

/** A host that has everything. */
const HEALTHY: DoctorHost = {
  isSourceTree: false,
  uid: () => 0,
  readText: (path) => Promise.resolve(KERNEL_FILES[path]),
  whatIsAt: (path) => Promise.resolve(path === "/var/cache/quasaur" ? "directory" : "file"),
  list: () => Promise.resolve(["10-net.conflist"]),
  freeBytes: () => Promise.resolve(2 ** 34),
  run: (program) => Promise.resolve(PROGRAMS[program]),
  facts: () => Promise.resolve(FACTS),
  wasmEdge: () => Promise.resolve("0.17.1"),
  vmmConfig: () => Promise.resolve({ config: VMM_CONFIG.defaults() }),
  quarkConfig: () => Promise.resolve({ config: QUARK_CONFIG.defaults() }),
  qemu: () => Promise.resolve("11.1.2 (Debian)"),
  tryMachine: () => Promise.resolve({ accelerator: "kvm", why: "a guest ran with it" }),
  runsc: () =>
    Promise.resolve({
      version: "release-20240729.0",
      spec: "1.1.0",
      go: "1.22.0",
      problem: undefined,
    }),
  tryRunsc: () => Promise.resolve({ platform: "systrap", why: "a container ran with it" }),
  containerdSections: () =>
    Promise.resolve({ file: "/etc/c.toml", exists: true, missing: [], different: [] }),
  cniPlaces: () => Promise.resolve({ programs: ["/opt/cni/bin"], networks: "/etc/cni/net.d" }),
  sandboxers: () => Promise.resolve([{ address: "/w.sock", kind: "wasm", version: VERSION }]),
};

/** What is found on a host that differs. */
async function found(differs: Partial<DoctorHost>): Promise<Map<string, Finding>> {
  const findings = await examine({ ...HEALTHY, ...differs }, DOCTOR_KINDS);
  return new Map(findings.map((finding) => [finding.id, finding]));
}

/** A host on which nothing is at some paths. */
function without(...lacking: readonly RegExp[]): Partial<DoctorHost> {
  return {
    whatIsAt: (path) =>
      lacking.some((pattern) => pattern.test(path))
        ? Promise.resolve(undefined)
        : HEALTHY.whatIsAt(path),
  };
}

function cannotRun(findings: ReadonlyMap<string, Finding>): string[] {
  return verdictsOf([...findings.values()], DOCTOR_KINDS)
    .filter(({ works }) => !works).map(({ kind }) => kind);
}

Deno.test("doctor finds nothing wrong with a host that has everything", async () => {
  const findings = await found({});
  for (const { id, state, found } of findings.values()) {
    assert.equal(state, "ok", `${id}: ${found}`);
  }
  assert.deepEqual(cannotRun(findings), []);
  assert.ok(findings.size > 20);
});

/** What is missing, and what comes of it: which finding, what mends it, which kinds cannot run. */
const CASES: readonly (readonly [
  what: string,
  differs: Partial<DoctorHost>,
  id: string,
  mend: RegExp,
  blocks: readonly string[],
])[] = [
  ["the guest library", without(/libquasaur-guest/), "wasm-library", /apt-get.*quasaur$/, ["wasm"]],
  ["QEMU", without(/qemu-system/), "qemu", /^apt-get install --yes qemu-system-x86$/, ["vmm"]],
  ["the initrd", without(/initrd/), "guest-initrd", /reinstall/, ["vmm"]],
  ["runsc", without(/runsc/), "runsc", /^apt-get install --yes runsc$/, ["gvisor"]],
  ["the launcher", without(/host-launcher/), "host-launcher", /reinstall/, ["vmm", "gvisor"]],
  ["virtiofsd", without(/virtiofsd/), "virtiofsd", /^apt-get install --yes virtiofsd$/, []],
  ["a shim", without(/shim-quasaur-gvisor/), "shims", /^quasaur install$/, []],
  ["CNI plugins", without(/cni\/bin/), "cni-plugins", /containernetworking-plugins$/, []],
  [
    "WasmEdge",
    { wasmEdge: () => Promise.reject(new SandboxError("FailedPrecondition", "not found")) },
    "wasmedge",
    /^apt-get install --yes libwasmedge0$/,
    ["wasm"],
  ],
  [
    "a network",
    { list: () => Promise.resolve([]) },
    "cni-config",
    /^mkdir -p \/etc\/cni\/net\.d && echo '\{.*\}' > \/etc\/cni\/net\.d\/10-bridge\.conflist$/,
    [],
  ],
  [
    "programs to run",
    { run: () => Promise.resolve(undefined) },
    "mkfs.erofs",
    /^apt-get install --yes erofs-utils$/,
    ["vmm"],
  ],
  [
    "a configuration that can be read",
    { vmmConfig: () => Promise.resolve({ problem: "it is no TOML" }) },
    "vmm-config",
    /^quasaur config vmm$/,
    ["vmm"],
  ],
  [
    "our sections",
    {
      containerdSections: () =>
        Promise.resolve({ file: "/c.toml", exists: true, missing: ["a.b"], different: [] }),
    },
    "containerd-config",
    /^quasaur containerd config --apply --kind wasm --kind vmm --kind gvisor$/,
    [],
  ],
  [
    "a guest that runs",
    { tryMachine: () => Promise.reject(new SandboxError("FailedPrecondition", "no guest ran")) },
    "accelerator",
    /./,
    ["vmm"],
  ],
  [
    "a container that runs",
    { tryRunsc: () => Promise.reject(new SandboxError("FailedPrecondition", "none ran")) },
    "gvisor-platform",
    /./,
    ["gvisor"],
  ],
  [
    "a sandboxer that answers",
    { sandboxers: () => Promise.resolve([{ address: "/vmm.sock", problem: "nobody listens" }]) },
    "sandboxer:/vmm.sock",
    /^systemctl restart quasaur-vmm$/,
    [],
  ],
];

for (const [what, differs, id, mend, blocks] of CASES) {
  Deno.test(`doctor without ${what} says so, and the command that mends it`, async () => {
    const findings = await found(differs);
    const finding = findings.get(id);
    assert.ok(finding !== undefined && finding.state !== "ok", id);
    assert.match(finding.mend ?? "", mend);
    assert.deepEqual(cannotRun(findings), blocks);
  });
}

Deno.test("doctor in the sources mends by set-up, where that does it", async () => {
  const findings = await found({ ...without(/runsc|initrd/), isSourceTree: true });
  assert.equal(findings.get("runsc")?.mend, "deno task setup");
  assert.equal(findings.get("guest-initrd")?.mend, "deno task guest:image");
});

Deno.test("doctor notes what is worse than it could be, and lets it run", async () => {
  const findings = await found({
    uid: () => 1000,
    facts: () => Promise.resolve({ ...FACTS, kvm: false, vhostVsock: false }),
    freeBytes: () => Promise.resolve(1000),
    runsc: () =>
      Promise.resolve({ version: "0.0~20200101.0", spec: "", go: undefined, problem: "it panics" }),
    tryMachine: () => Promise.resolve({ accelerator: "tcg", why: "/dev/kvm cannot be opened" }),
    qemu: () => Promise.resolve("7.2.0"),
    sandboxers: () => Promise.resolve([]),
    readText: (path) =>
      Promise.resolve(
        path === "/sys/fs/cgroup/cgroup.controllers" ? "cpu pids" : KERNEL_FILES[path],
      ),
  });
  for (
    const id of [
      ...["rights", "kvm", "vsock", "state", "cache", "runsc", "accelerator", "qemu", "sandboxers"],
      ...["cgroups", "gvisor-platform"],
    ]
  ) assert.equal(findings.get(id)?.state, "note", id);
  assert.deepEqual(cannotRun(findings), []);
  assert.equal(
    findings.get("cgroups")?.mend,
    'echo "+cpuset +memory" > /sys/fs/cgroup/cgroup.subtree_control',
  );
});

Deno.test("root without its capabilities is in somebody else's container", async () => {
  const findings = await found({
    readText: (path) =>
      Promise.resolve(
        path === "/proc/self/status" ? "CapEff:\t00000000a80425fb\n" : KERNEL_FILES[path],
      ),
  });
  assert.match(findings.get("capabilities")?.found ?? "", /without .*CAP_SYS_ADMIN/);
  assert.deepEqual(cannotRun(findings), ["gvisor"]);
});

async function doctor(host: DoctorHost, ...args: string[]) {
  let [code, output] = [-1, ""];
  const command = doctorCommand((ended) => {
    code = ended;
  }, {
    host: () => Promise.resolve(host),
    print: (text) => {
      output += text;
    },
    colours: () => NO_COLOURS,
    columns: () => undefined,
  });
  await command.exitOverride().parseAsync(args, { from: "user" });
  return { code, output };
}

Deno.test("doctor ends with 0 where one of the kinds can run that were asked for, else with 1", async () => {
  const host = { ...HEALTHY, ...without(/qemu-system/) };
  assert.equal((await doctor(host)).code, 0);
  const vmm = await doctor(host, "vmm");
  assert.equal(vmm.code, 1);
  assert.match(vmm.output, /missing {2}QEMU +no such file.*\n +-> apt-get install/);
  assert.match(vmm.output, /\nvmm cannot run here: QEMU\n$/);
  assert.ok(!vmm.output.includes("wasm can"));
  await assert.rejects(doctor(host, "podman"), UsageError);
});

Deno.test("doctor --json has all findings and a verdict for each kind", async () => {
  const { output } = await doctor(HEALTHY, "--json");
  const { findings, verdicts } = JSON.parse(output);
  assert.deepEqual(verdicts.map((one: { kind: string }) => one.kind), ["wasm", "vmm", "gvisor"]);
  assert.equal(new Set(findings.map((one: { id: string }) => one.id)).size, findings.length);
});

Deno.test("containerd's words on CNI are found in both versions of its configuration", () => {
  const v2 = `version = 2
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/x"`;
  assert.deepEqual(cniPlacesOf(v2), { programs: ["/usr/lib/cni"], networks: "/etc/cni/x" });
  const v3 = `version = 3
    [plugins.'io.containerd.cri.v1.runtime'.cni]
      bin_dirs = ['/a', '/b']`;
  assert.deepEqual(cniPlacesOf(v3), { programs: ["/a", "/b"], networks: "/etc/cni/net.d" });
  const none = { programs: ["/opt/cni/bin"], networks: "/etc/cni/net.d" };
  assert.deepEqual(cniPlacesOf(""), none);
  assert.deepEqual(cniPlacesOf("not = [toml"), none);
});
