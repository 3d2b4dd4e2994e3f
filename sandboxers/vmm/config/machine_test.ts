import assert from "node:assert/strict";
import { GUEST_DIRECTORY } from "../../../guest/image/paths.ts";
import type { VmmConfig } from "./config.ts";
import { configFromFlag } from "../../config/file.ts";
import { readConfig, valuesOrThrow } from "../../config/read.ts";
import { type HostFacts, machineFor, type PodMachine, type PodShape } from "./machine.ts";
import { VMM_SCHEMA } from "./schema.ts";

const MIB = 1 << 20;
const HOST: HostFacts = { accelerator: "tcg", cpus: 4 };

function config(...set: string[]): VmmConfig {
  return valuesOrThrow(
    readConfig(VMM_SCHEMA, set.map((each) => configFromFlag(each, "--set"))),
    "",
  );
}

function machine(pod: Partial<PodShape>, set: readonly string[] = [], host = HOST): PodMachine {
  return machineFor(config(...set), {
    id: "a",
    resources: {},
    annotations: {},
    network: { kind: "namespace", path: "/run/netns/a" },
    ...pod,
  }, host);
}

/** Memory in MiB for a pod's limit in MiB. */
function memoryFor(limitMb: number, ...set: string[]): number {
  return machine({ resources: { memoryBytes: limitMb * MIB } }, set).spec.memoryBytes / MIB;
}

function cpusFor(quotaUs: number, periodUs: number, ...set: string[]): number {
  const resources = { cpuQuotaUs: quotaUs, cpuPeriodUs: periodUs };
  return machine({ resources }, set).spec.cpus;
}

Deno.test("machineFor() gives a pod without limits the configured machine", () => {
  const { spec, template, mayShare } = machine({});
  assert.deepEqual(spec, {
    machine: "microvm",
    machineOptions: "",
    accelerator: "tcg",
    cpuModel: "",
    cpus: 1,
    cpusMax: 1,
    memoryBytes: 256 * MIB,
    memoryMaxBytes: 256 * MIB,
    hugepages: false,
    kernel: `${GUEST_DIRECTORY}/vmlinux`,
    initrd: `${GUEST_DIRECTORY}/initrd.cpio`,
    kernelParams: "",
    entropySource: "/dev/urandom",
    network: "tap",
    interfaces: 1,
    diskSlots: 4,
    sharedTree: false,
    console: false,
  });
  assert.equal(template, true);
  assert.equal(mayShare, true);
});

Deno.test("machineFor() rounds a CPU quota up, to at most what there is", () => {
  assert.equal(cpusFor(1000, 100_000), 1);
  assert.equal(cpusFor(100_000, 100_000), 1);
  assert.equal(cpusFor(100_001, 100_000), 2);
  assert.equal(cpusFor(150_000, 50_000), 3);
  assert.equal(cpusFor(6_400_000, 100_000), 4);
  assert.equal(cpusFor(6_400_000, 100_000, "limits.max_vcpus=2"), 2);
  assert.equal(cpusFor(6_400_000, 100_000, "limits.max_vcpus=64"), 64);
});

Deno.test("machineFor() adds what the guest needs to a memory limit and rounds in steps", () => {
  assert.equal(memoryFor(1), 128);
  assert.equal(memoryFor(32), 128);
  assert.equal(memoryFor(64), 192);
  assert.equal(memoryFor(128), 256);
  assert.equal(memoryFor(1024), 1152);
  assert.equal(memoryFor(64, "template.memory_step_in_mb=2"), 140);
  assert.equal(memoryFor(64, "template.memory_step_in_mb=256"), 256);
  assert.equal(memoryFor(1, "template.memory_step_in_mb=2"), 96);
});

Deno.test("machineFor() always leaves the containers what their limit says", () => {
  for (let limitMb = 1; limitMb < 20_000; limitMb += 37) {
    const memoryMb = memoryFor(limitMb);
    assert.ok(memoryMb - memoryMb / 64 - 72 >= limitMb - 1e-6, `${limitMb}: ${memoryMb}`);
    assert.equal(memoryMb % 64, 0);
  }
});

Deno.test("machineFor() refuses memory beyond the configuration's bound", () => {
  assert.throws(() => memoryFor(512, "limits.max_memory_in_mb=256"), {
    code: "InvalidArgument",
    message:
      'cannot start sandbox "a": its memory limit of 512 MiB needs 594: limits.max_memory_in_mb of ' +
      "the configuration is 256",
  });
  assert.equal(memoryFor(150, "limits.max_memory_in_mb=230"), 230);
});

Deno.test("machineFor() follows the pod's annotations within the bounds", () => {
  const annotations = {
    "quasaur.dev/vcpus": "3",
    "quasaur.dev/memory-in-mb": "201",
    "quasaur.dev/share-fs": "virtiofs",
    "other.example/x": "y",
  };
  const { spec } = machine({ annotations, resources: { memoryBytes: MIB, cpuQuotaUs: 1000 } });
  assert.equal(spec.cpus, 3);
  assert.equal(spec.memoryBytes, 202 * MIB);
  assert.equal(spec.sharedTree, true);
});

Deno.test("machineFor() refuses annotations that cannot be followed", () => {
  const wrong: [string, string, RegExp, string?][] = [
    ["vcpus", "5", /"quasaur.dev\/vcpus" is 5: this host has 4$/],
    ["vcpus", "3", /is 3: limits.max_vcpus of the configuration is 2$/, "limits.max_vcpus=2"],
    ["vcpus", "0", /is "0": expected a whole number above 0$/],
    ["vcpus", "1.5", /expected a whole number above 0/],
    ["vcpus", "1e3", /expected a whole number above 0/],
    ["memory-in-mb", "64", /is 64: a guest needs at least 96 MiB$/],
    ["memory-in-mb", "40000", /limits.max_memory_in_mb of the configuration is 32768$/],
    ["memory-in-mb", "99999999999999999999", /expected a whole number/],
    ["share-fs", "nfs", /"nfs": expected "auto", "virtiofs" or "none"$/],
    ["template", "off", /"quasaur.dev\/template" is not allowed: add "template" to limits/],
    ["vcpu", "2", /"quasaur.dev\/vcpu" is unknown: did you mean "quasaur.dev\/vcpus"\?$/],
    ["colour", "2", /is unknown: expected one of quasaur.dev\/vcpus, /],
    ["isolation", "thread", /is "thread": a machine of its own gives a pod "process"$/],
    ["vcpus", "2", /is not allowed/, "limits.annotations=[]"],
  ];
  for (const [name, value, message, ...set] of wrong) {
    const annotations = { [`quasaur.dev/${name}`]: value };
    assert.throws(
      () => machine({ annotations }, set.filter((each) => each !== undefined)),
      { code: "InvalidArgument", message },
      `${name}=${value}`,
    );
  }
});

Deno.test("machineFor() takes an annotation that asks for what a machine gives anyway", () => {
  assert.equal(machine({ annotations: { "quasaur.dev/isolation": "process" } }).spec.cpus, 1);
});

Deno.test("machineFor() takes templates only where they can be", () => {
  assert.equal(machine({}, ["template.enable=false"]).template, false);
  assert.equal(machine({}, ["hypervisor.hugepages=true"]).template, false);
  const annotations = { "quasaur.dev/template": "off" };
  const allowed = 'limits.annotations=["template"]';
  assert.equal(machine({ annotations }, [allowed]).template, false);
  assert.equal(machine({}, ["hypervisor.share_fs=none"]).mayShare, false);
});

Deno.test("machineFor() connects a machine as its pod is", () => {
  const connected = (network: PodShape["network"]) => {
    const { spec } = machine({ network });
    return [spec.network, spec.interfaces];
  };
  assert.deepEqual(connected({ kind: "namespace", path: "/n" }), ["tap", 1]);
  assert.deepEqual(connected({ kind: "user" }), ["user", 1]);
  assert.deepEqual(connected({ kind: "none" }), ["none", 0]);
  assert.throws(() => connected({ kind: "host" }), {
    code: "Unimplemented",
    message: /cannot use the host's network/,
  });
});

Deno.test("machineFor() takes as many interfaces as the pod has, and never less than configured", () => {
  const pod: PodShape = {
    id: "a",
    resources: {},
    annotations: {},
    network: { kind: "namespace", path: "/n" },
  };
  assert.equal(machineFor(config(), pod, HOST, 3).spec.interfaces, 3);
  assert.equal(machineFor(config("network.interfaces=2"), pod, HOST, 1).spec.interfaces, 2);
});

Deno.test("machineFor() lets a q35 machine grow to the bounds", () => {
  const { spec } = machine({}, ["hypervisor.machine_type=q35", "limits.max_memory_in_mb=1001"]);
  assert.equal(spec.cpusMax, 4);
  assert.equal(spec.memoryMaxBytes, 1002 * MIB);
});

Deno.test("machineFor() takes kernel and initrd from where the configuration says", () => {
  const { spec } = machine({}, ["hypervisor.image_path=/i", "hypervisor.kernel_path=/k/own"]);
  assert.equal(spec.kernel, "/k/own");
  assert.equal(spec.initrd, "/i/initrd.cpio");
});
