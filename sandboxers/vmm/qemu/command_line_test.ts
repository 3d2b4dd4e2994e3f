import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachinePlace, MachineSpec } from "../hypervisor.ts";
import {
  type CommandLineInput,
  kernelParameters,
  memoryModules,
  qemuArguments,
} from "./command_line.ts";

const SPEC: MachineSpec = {
  machine: "microvm",
  machineOptions: "",
  accelerator: "tcg",
  cpuModel: "",
  cpus: 1,
  cpusMax: 1,
  memoryBytes: 128 << 20,
  memoryMaxBytes: 128 << 20,
  hugepages: false,
  kernel: "/k/vmlinux",
  initrd: "/k/initrd.cpio",
  kernelParams: "",
  entropySource: "/dev/urandom",
  network: "tap",
  interfaces: 1,
  diskSlots: 1,
  sharedTree: false,
  console: false,
};

const PLACE: MachinePlace = {
  id: "pod1",
  directory: "/run/m/pod1",
  user: undefined,
  cgroup: "",
  sharedTreeSocket: undefined,
};

function argv(
  spec: Partial<MachineSpec> = {},
  place: Partial<MachinePlace> = {},
  input: Partial<CommandLineInput> = {},
): string[] {
  return qemuArguments({
    spec: { ...SPEC, ...spec },
    place: { ...PLACE, ...place },
    start: { kind: "boot", tscKhz: 2_500_000 },
    memory: { kind: "anonymous" },
    balloon: true,
    firstTapFd: 10,
    ...input,
  });
}

/** The values of an option, in order. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => args[index - 1] === option ? [arg] : []);
}

const PORTS = [0, 1].flatMap((port) => [
  "-device",
  `pcie-root-port,id=port${port},bus=pcie.0,addr=0xf.${port},multifunction=on,` +
  `chassis=${port + 1},slot=${port + 1}`,
]);

const SLOT0 = [
  "-blockdev",
  "driver=null-co,node-name=slot0-empty,size=17179869184,read-zeroes=on,read-only=on",
  "-blockdev",
  "driver=raw,node-name=slot0,file=slot0-empty,read-only=on",
  "-device",
  "virtio-blk-pci,id=slot0,drive=slot0,serial=slot0,addr=0x10.0,multifunction=on",
];

const COMMON = (directory: string) => [
  "-nodefaults",
  "-no-user-config",
  "-no-reboot",
  "-display",
  "none",
  "-sandbox",
  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
  "-qmp",
  `unix:${directory}/qmp.sock,server=on,wait=off`,
  "-chardev",
  `socket,id=agent,path=${directory}/agent.sock,server=on,wait=off`,
  "-device",
  "virtio-serial-pci,id=serial,addr=0x8,max_ports=2",
  "-device",
  "virtserialport,bus=serial.0,chardev=agent,name=agent.0",
  "-object",
  "rng-random,id=entropy,filename=/dev/urandom",
  "-device",
  "virtio-rng-pci,addr=0x9,rng=entropy",
  "-device",
  "pvpanic-pci,addr=0xa",
  "-device",
  "virtio-balloon-pci,addr=0xb,free-page-reporting=on",
];

Deno.test("a microvm that boots under emulation", () => {
  assert.deepEqual(argv(), [
    "-name",
    "guest=pod1,debug-threads=on",
    "-M",
    "microvm,acpi=on,pcie=on,rtc=on,pit=off,pic=off,mem-merge=off,dump-guest-core=off," +
    "suppress-vmdesc=on,memory-backend=mem",
    "-accel",
    "tcg,tb-size=64",
    "-cpu",
    "max,-erms,-fsrm,-fsrs,-fzrm",
    "-smp",
    "cpus=1",
    "-m",
    "size=128M",
    "-object",
    "memory-backend-memfd,id=mem,size=128M,share=on",
    ...COMMON("/run/m/pod1"),
    "-netdev",
    "tap,id=net0,fd=10",
    "-device",
    "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=,addr=0x1",
    ...PORTS,
    ...SLOT0,
    "-kernel",
    "/k/vmlinux",
    "-initrd",
    "/k/initrd.cpio",
    "-append",
    "quiet 8250.nr_uarts=0 panic=-1 nowatchdog random.trust_cpu=on damon_stat.enabled=0 " +
    "pcie_ports=native no_timer_check cryptomgr.notests mitigations=off noreplace-smp " +
    "initcall_blacklist=jent_mod_init,load_system_certificate_list,bpf_tcp_ca_kfunc_init," +
    "bpf_dummy_struct_ops_init tsc_early_khz=2500000",
  ]);
});

Deno.test("a q35 that boots under KVM with all that it can have", () => {
  const spec: Partial<MachineSpec> = {
    machine: "q35",
    machineOptions: "hpet=off",
    accelerator: "kvm",
    cpus: 2,
    cpusMax: 4,
    memoryBytes: 512 << 20,
    memoryMaxBytes: 1 << 30,
    hugepages: true,
    kernelParams: " a=b ",
    interfaces: 2,
    sharedTree: true,
    console: true,
  };
  assert.deepEqual(argv(spec, { id: "a,b", sharedTreeSocket: "/run/m/fs.sock" }), [
    "-name",
    "guest=a,,b,debug-threads=on",
    "-M",
    "q35,sata=off,smbus=off,vmport=off,i8042=off,mem-merge=off,dump-guest-core=off," +
    "suppress-vmdesc=on,memory-backend=mem,hpet=off",
    "-accel",
    "kvm",
    "-cpu",
    "host",
    "-smp",
    "cpus=4",
    "-m",
    "size=512M,slots=4,maxmem=1024M",
    "-object",
    "memory-backend-memfd,id=mem,size=512M,share=on,hugetlb=on,hugetlbsize=2M",
    ...COMMON("/run/m/pod1"),
    "-netdev",
    "tap,id=net0,fd=10",
    "-device",
    "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=,addr=0x1",
    "-netdev",
    "tap,id=net1,fd=11",
    "-device",
    "virtio-net-pci,netdev=net1,mac=02:00:00:00:00:02,romfile=,addr=0x2",
    "-chardev",
    "socket,id=share,path=/run/m/fs.sock",
    "-device",
    "vhost-user-fs-pci,chardev=share,tag=share,addr=0xc",
    ...PORTS,
    ...SLOT0,
    "-chardev",
    "file,id=console,path=/run/m/pod1/console.log",
    "-serial",
    "chardev:console",
    "-kernel",
    "/k/vmlinux",
    "-initrd",
    "/k/initrd.cpio",
    "-append",
    "console=ttyS0 panic=-1 nowatchdog random.trust_cpu=on damon_stat.enabled=0 maxcpus=2 a=b",
  ]);
});

Deno.test("a clone has the devices of what it was cloned from, and no kernel", () => {
  const boot = argv();
  const clone = argv({}, { directory: "/run/m/pod2" }, {
    memory: { kind: "private", path: "/t/memory" },
    start: { kind: "load", state: "/t/state", whole: false, paused: true, plugged: [] },
  });
  assert.deepEqual(valuesOf(clone, "-device"), valuesOf(boot, "-device"));
  assert.deepEqual(valuesOf(clone, "-M"), valuesOf(boot, "-M"));
  assert.deepEqual(valuesOf(clone, "-object").slice(0, 1), [
    "memory-backend-file,id=mem,size=128M,mem-path=/t/memory,share=off,readonly=on,rom=off",
  ]);
  assert.deepEqual(clone.slice(clone.indexOf("-S")), [
    "-S",
    "-global",
    "migration.x-ignore-shared=on",
    "-global",
    "migration.announce-rounds=0",
    "-incoming",
    "file:/t/state",
  ]);
  for (const option of ["-kernel", "-initrd", "-append"]) assert.ok(!clone.includes(option));
});

Deno.test("a clone that was saved whole reads its memory, and finds what was plugged in", () => {
  const plugged = [{ port: 1, path: "/i/a,b.img", serial: "data" }];
  const clone = argv({}, {}, {
    start: { kind: "load", state: "/t/state", whole: true, paused: false, plugged },
  });
  assert.ok(valuesOf(clone, "-global").includes("migration.mapped-ram=on"));
  assert.ok(!clone.includes("-S"));
  assert.deepEqual(valuesOf(clone, "-blockdev").slice(-2), [
    "driver=file,node-name=disk1-file,filename=/i/a,,b.img,read-only=on,locking=off",
    "driver=raw,node-name=disk1-node,file=disk1-file,read-only=on",
  ]);
  assert.ok(
    valuesOf(clone, "-device").includes(
      "virtio-blk-pci,id=disk1-data,drive=disk1-node,serial=data,bus=port1",
    ),
  );
});

Deno.test("memory in a file is shared with that file", () => {
  const args = argv({}, {}, { memory: { kind: "file", path: "/t/memory" } });
  assert.equal(
    valuesOf(args, "-object")[0],
    "memory-backend-file,id=mem,size=128M,mem-path=/t/memory,share=on",
  );
});

Deno.test("a machine without a balloon has the others at the same addresses", () => {
  const isBalloon = (device: string) => device.startsWith("virtio-balloon");
  const without = argv({}, {}, { balloon: false });
  assert.ok(!valuesOf(without, "-device").some(isBalloon));
  assert.deepEqual(
    valuesOf(without, "-device"),
    valuesOf(argv(), "-device").filter((device) => !isBalloon(device)),
  );
});

Deno.test("a machine has the network that it asks for", () => {
  assert.deepEqual(valuesOf(argv({ network: "none", interfaces: 0 }), "-netdev"), []);
  assert.deepEqual(valuesOf(argv({ network: "user" }), "-netdev"), ["user,id=net0"]);
});

Deno.test("many slots are functions of few addresses", () => {
  const devices = valuesOf(argv({ diskSlots: 20 }), "-device");
  const addresses = devices.flatMap((device) =>
    /serial=slot.*addr=(0x[0-9a-f.]+)/.exec(device)?.[1] ?? []
  );
  assert.deepEqual([addresses[0], addresses[7], addresses[8], addresses[19]], [
    "0x10.0",
    "0x10.7",
    "0x11.0",
    "0x12.3",
  ]);
  assert.equal(
    new Set(devices.flatMap((device) => /addr=([^,]+)/.exec(device)?.[1] ?? [])).size,
    27,
  );
});

Deno.test("only an emulated microvm is told the host's clock", () => {
  const told = (machine: string, accelerator: "kvm" | "tcg") =>
    /tsc_early_khz=7/.test(kernelParameters({ ...SPEC, machine, accelerator }, 7));
  assert.deepEqual(
    [told("microvm", "tcg"), told("q35", "tcg"), told("microvm", "kvm"), told("q35", "kvm")],
    [true, false, false, false],
  );
});

Deno.test("memory grows by whole modules, and only in a q35", () => {
  const modules = (spec: Partial<MachineSpec>) => memoryModules({ ...SPEC, ...spec });
  assert.equal(modules({ memoryMaxBytes: 1 << 30 }), 0);
  assert.equal(modules({ machine: "q35" }), 0);
  assert.equal(modules({ machine: "q35", memoryMaxBytes: 129 << 20 }), 1);
  assert.equal(modules({ machine: "q35", memoryMaxBytes: 2 ** 40 }), 256);
});

Deno.test("what cannot be built is refused with a reason", async (t) => {
  const cases: readonly [
    RegExp,
    Partial<MachineSpec>,
    Partial<MachinePlace>,
    Partial<CommandLineInput>,
  ][] = [
    [/type "pc" is unknown: expected "microvm" or "q35"/, { machine: "pc" }, {}, {}],
    [/not a multiple of 2 MiB/, { memoryBytes: (128 << 20) + 4096 }, {}, {}],
    [/not a multiple of 2 MiB/, { memoryBytes: 0 }, {}, {}],
    [/0 CPUs/, { cpus: 0 }, {}, {}],
    [/at most 8 CPUs: use "q35"/, { cpusMax: 9 }, {}, {}],
    [/49 disk slots are above 48/, { diskSlots: 49 }, {}, {}],
    [/8 network interfaces are above 7/, { interfaces: 8 }, {}, {}],
    [/shared tree and the socket/, { sharedTree: true }, {}, {}],
    [/shared tree and the socket/, {}, { sharedTreeSocket: "/s" }, {}],
    [/needs memory that is shared/, { sharedTree: true }, { sharedTreeSocket: "/s" }, {
      memory: { kind: "private", path: "/t/memory" },
    }],
    [/huge pages cannot live in a file/, { hugepages: true }, {}, {
      memory: { kind: "file", path: "/t/memory" },
    }],
    [/has a line feed or a NUL/, { kernel: "/k\n" }, {}, {}],
    [/at most 107: use a shorter directory/, {}, { directory: `/${"d".repeat(100)}` }, {}],
  ];
  for (const [message, spec, place, input] of cases) {
    await t.step(message.source, () => {
      assert.throws(() => argv(spec, place, input), (thrown) => {
        assert.ok(thrown instanceof SandboxError);
        assert.equal(thrown.code, "InvalidArgument");
        assert.match(thrown.message, message);
        return true;
      });
    });
  }
});
