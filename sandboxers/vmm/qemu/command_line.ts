/**
 * The arguments that a QEMU is started with, as a pure function of what the machine is made of. A
 * machine that is loaded from a saved one must have the very same devices at the same addresses, so
 * every device has its address written down here.
 *
 * Source: QEMU 11.1 (docs/system/i386/microvm.rst, qemu-options.hx).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachinePlace, MachineSpec } from "../hypervisor.ts";

/** Where the guest's memory lives. */
export type GuestMemory =
  /** In memory without a name; shared with a file server where the machine has one. */
  | { readonly kind: "anonymous" }
  /** In a file, which has the guest's memory afterwards. */
  | { readonly kind: "file"; readonly path: string }
  /** Read from a file that is not changed; what the guest writes is its own. */
  | { readonly kind: "private"; readonly path: string };

/** How a machine begins. */
export type MachineStart =
  /** Its kernel boots. `tscKhz` is the host's time stamp counter in kHz, for `tcg` on `microvm`. */
  | { readonly kind: "boot"; readonly tscKhz: number }
  /** It goes on where a saved one stood. */
  | {
    readonly kind: "load";
    /** The file with the devices' state, and with the memory where it is `whole`. */
    readonly state: string;
    /** Whether the file has the memory too. */
    readonly whole: boolean;
    /** Whether it stands still until it is told to go. */
    readonly paused: boolean;
    /** What was plugged in when it was saved. */
    readonly plugged: readonly PluggedDisk[];
  };

/** A read-only disk that was plugged in when a machine was saved. */
export interface PluggedDisk {
  /** The root port. */
  readonly port: number;
  /** The image. */
  readonly path: string;
  /** Its serial number in the guest. */
  readonly serial: string;
}

/** What {@link qemuArguments} needs. */
export interface CommandLineInput {
  /** What the machine is made of. */
  readonly spec: MachineSpec;
  /** Where it runs. */
  readonly place: MachinePlace;
  /** How it begins. */
  readonly start: MachineStart;
  /** Where its memory lives. */
  readonly memory: GuestMemory;
  /**
   * Whether the guest gives unused memory back. Not with memory that is `private`: QEMU cannot take
   * it and says so each time, as often as the guest likes. A clone has what the saved machine had.
   */
  readonly balloon: boolean;
  /** The first descriptor of the tap devices, which QEMU inherits one after the other. */
  readonly firstTapFd: number;
}

/** Name of the agent's virtio-serial port in the guest (/sys/class/virtio-ports/.../name). */
export const AGENT_PORT = "agent.0";
/** Tag of the shared tree, for the guest's `mount -t virtiofs`. */
export const SHARED_TREE_TAG = "share";
/** Size of a disk slot, in bytes: no image in a slot can be larger. */
export const SLOT_BYTES = 16 * 2 ** 30;
/**
 * How many disks can be plugged in beside those in slots. Each port, and each slot, makes the start of
 * a clone 3 to 4 ms longer.
 */
export const HOTPLUG_PORTS = 2;
/** Most disk slots: eight functions at each of six addresses. */
export const SLOTS_MAX = 48;
/** Most CPUs of a microvm: the ACPI tables of more do not fit behind the initrd. */
export const MICROVM_CPUS_MAX = 8;
/** Most network interfaces. */
export const INTERFACES_MAX = 7;
/** Size of a memory module that is plugged in, in bytes: what Linux takes at the least on x86-64. */
export const MODULE_BYTES = 128 * 2 ** 20;
/** Most memory modules (QEMU's and ACPI's limit). */
export const MODULES_MAX = 256;

/** Files of a machine in its directory. */
export const MACHINE_FILES = {
  /** The agent's socket. */
  agent: "agent.sock",
  /** The control socket. */
  qmp: "qmp.sock",
  /** The guest's console. */
  console: "console.log",
  /** What QEMU says. */
  log: "vmm.log",
  /** The memory of a machine that has a copy of a saved one's. */
  memory: "memory",
} as const;

/** Addresses on the bus `pcie.0`; network interfaces are at 1 to 7. */
const ADDRESS = {
  serial: 0x8,
  entropy: 0x9,
  panic: 0xa,
  balloon: 0xb,
  sharedTree: 0xc,
  /** Root ports for hotplug are the functions of one address. */
  ports: 0xf,
  /** Disk slots: eight functions at each address from here. */
  slots: 0x10,
} as const;

/** Longest path of a unix socket in bytes (sun_path in unix(7), with its end). */
const SOCKET_PATH_MAX = 107;

/**
 * Parameters of every kernel: a panic ends the VMM, entropy is the CPU's too, and nobody looks which
 * of its pages are in use (a thread of newer kernels does so all the time otherwise).
 */
const KERNEL_PARAMS = [
  "panic=-1",
  "nowatchdog",
  "random.trust_cpu=on",
  "damon_stat.enabled=0",
] as const;

/** What an emulated kernel can do without: self tests and code patching that take half its boot. */
const EMULATED_KERNEL_PARAMS = [
  "no_timer_check",
  "cryptomgr.notests",
  "mitigations=off",
  "noreplace-smp",
  "initcall_blacklist=jent_mod_init,load_system_certificate_list,bpf_tcp_ca_kfunc_init,bpf_dummy_struct_ops_init",
] as const;

/**
 * The CPU of machines that name none. Translated code copies memory in loops of its own; with fast
 * strings the guest's kernel uses single instructions for it, which TCG carries out byte by byte.
 */
const DEFAULT_CPU = { kvm: "host", tcg: "max,-erms,-fsrm,-fsrs,-fzrm" } as const;

/**
 * The arguments of a QEMU, without its own name.
 *
 * @param input What it is to be.
 * @throws {SandboxError} `InvalidArgument` where the machine cannot be built like that.
 */
export function qemuArguments(input: CommandLineInput): string[] {
  const { spec, place, start, memory } = input;
  checkSpec(spec, place, memory);
  const file = (name: keyof typeof MACHINE_FILES) => `${place.directory}/${MACHINE_FILES[name]}`;
  return [
    ["-name", `guest=${escape(place.id)},debug-threads=on`],
    ["-M", machineOption(spec)],
    ["-accel", spec.accelerator === "kvm" ? "kvm" : "tcg,tb-size=64"],
    ["-cpu", spec.cpuModel || DEFAULT_CPU[spec.accelerator]],
    ["-smp", `cpus=${cpusOf(spec)}`],
    ["-m", memoryOption(spec)],
    ["-object", memoryObject(spec, memory)],
    ["-nodefaults", "-no-user-config", "-no-reboot"],
    ["-display", "none"],
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ["-qmp", `unix:${escape(socketPath(file("qmp")))},server=on,wait=off`],
    ["-chardev", `socket,id=agent,path=${escape(socketPath(file("agent")))},server=on,wait=off`],
    ["-device", `virtio-serial-pci,id=serial,addr=${hex(ADDRESS.serial)},max_ports=2`],
    ["-device", `virtserialport,bus=serial.0,chardev=agent,name=${AGENT_PORT}`],
    entropy(spec),
    ["-device", `pvpanic-pci,addr=${hex(ADDRESS.panic)}`],
    input.balloon
      ? ["-device", `virtio-balloon-pci,addr=${hex(ADDRESS.balloon)},free-page-reporting=on`]
      : [],
    network(spec, input.firstTapFd),
    sharedTree(place),
    ports(),
    slots(spec),
    plugged(start),
    spec.console
      ? [
        "-chardev",
        `file,id=console,path=${escape(file("console"))}`,
        "-serial",
        "chardev:console",
      ]
      : [],
    beginning(spec, start),
  ].flat();
}

/** The kernel's parameters. @param tscKhz See {@link MachineStart}. */
export function kernelParameters(spec: MachineSpec, tscKhz: number): string {
  const emulated = spec.accelerator === "tcg";
  return [
    // Without a console nobody reads what the kernel says; a port that is not there costs a probe.
    ...(spec.console ? ["console=ttyS0"] : ["quiet", "8250.nr_uarts=0"]),
    ...KERNEL_PARAMS,
    // Its firmware does not hand the ports' hotplug over; that of q35 keeps it and does it faster.
    ...(spec.machine === "microvm" ? ["pcie_ports=native"] : []),
    // The others are there, and wait until the agent brings them online.
    ...(cpusOf(spec) > spec.cpus ? [`maxcpus=${spec.cpus}`] : []),
    ...(emulated ? EMULATED_KERNEL_PARAMS : []),
    // It has no other clock to measure this one by.
    ...(emulated && spec.machine === "microvm" ? [`tsc_early_khz=${tscKhz}`] : []),
    ...(spec.kernelParams.trim() === "" ? [] : [spec.kernelParams.trim()]),
  ].join(" ");
}

/** Whether a machine was made to grow. */
export function canGrow(spec: MachineSpec): boolean {
  return cpusOf(spec) > spec.cpus || memoryModules(spec) > 0;
}

/** How many memory modules can be plugged into a machine. */
export function memoryModules(spec: MachineSpec): number {
  if (spec.machine !== "q35") return 0;
  const room = Math.max(0, spec.memoryMaxBytes - spec.memoryBytes);
  return Math.min(MODULES_MAX, Math.ceil(room / MODULE_BYTES));
}

/** CPUs that a machine has, online or not. */
function cpusOf(spec: MachineSpec): number {
  return Math.max(spec.cpus, spec.cpusMax);
}

/** A value in an option of QEMU: a comma is written twice. */
export function escape(value: string): string {
  return value.replaceAll(",", ",,");
}

function checkSpec(spec: MachineSpec, place: MachinePlace, memory: GuestMemory): void {
  const refuse = (what: string) => {
    throw new SandboxError("InvalidArgument", `cannot make machine "${place.id}": ${what}`);
  };
  if (spec.machine !== "microvm" && spec.machine !== "q35") {
    refuse(`machine type "${spec.machine}" is unknown: expected "microvm" or "q35"`);
  }
  if (spec.memoryBytes <= 0 || spec.memoryBytes % 2 ** 21 !== 0) {
    refuse(`its memory of ${spec.memoryBytes} bytes is not a multiple of 2 MiB`);
  }
  if (!Number.isInteger(spec.cpus) || spec.cpus < 1) refuse(`${spec.cpus} CPUs are none`);
  if (spec.machine === "microvm" && cpusOf(spec) > MICROVM_CPUS_MAX) {
    refuse(`a microvm takes at most ${MICROVM_CPUS_MAX} CPUs: use "q35"`);
  }
  if (spec.diskSlots > SLOTS_MAX) refuse(`${spec.diskSlots} disk slots are above ${SLOTS_MAX}`);
  if (spec.interfaces > INTERFACES_MAX) {
    refuse(`${spec.interfaces} network interfaces are above ${INTERFACES_MAX}`);
  }
  if (spec.sharedTree !== (place.sharedTreeSocket !== undefined)) {
    refuse("a shared tree and the socket of its file server go together");
  }
  // The file server would read other memory than the guest writes, and die of it much later.
  if (spec.sharedTree && memory.kind === "private") {
    refuse("a shared tree needs memory that is shared: clone it with memory of its own");
  }
  if (spec.hugepages && memory.kind !== "anonymous") {
    refuse("memory of huge pages cannot live in a file: boot it, or save it whole");
  }
  // What follows a line feed or a NUL would be lost.
  for (const path of [place.directory, spec.kernel, spec.initrd]) {
    if (/[\0\n]/.test(path)) refuse(`the path ${JSON.stringify(path)} has a line feed or a NUL`);
  }
}

function socketPath(path: string): string {
  const bytes = new TextEncoder().encode(path).length;
  if (bytes <= SOCKET_PATH_MAX) return path;
  throw new SandboxError(
    "InvalidArgument",
    `cannot make the socket "${path}": its path has ${bytes} bytes and unix sockets take at most ` +
      `${SOCKET_PATH_MAX}: use a shorter directory`,
  );
}

function machineOption(spec: MachineSpec): string {
  const kind = spec.machine === "microvm"
    ? "microvm,acpi=on,pcie=on,rtc=on,pit=off,pic=off"
    : "q35,sata=off,smbus=off,vmport=off,i8042=off";
  // No page of one guest is merged with another's, none gets into a core file on the host.
  const common = "mem-merge=off,dump-guest-core=off,suppress-vmdesc=on,memory-backend=mem";
  return [kind, common, ...(spec.machineOptions === "" ? [] : [spec.machineOptions])].join(",");
}

function memoryOption(spec: MachineSpec): string {
  const size = `size=${mebibytes(spec.memoryBytes)}`;
  const modules = memoryModules(spec);
  if (modules === 0) return size;
  return `${size},slots=${modules},maxmem=${mebibytes(spec.memoryBytes + modules * MODULE_BYTES)}`;
}

function memoryObject(spec: MachineSpec, memory: GuestMemory): string {
  const size = `id=mem,size=${mebibytes(spec.memoryBytes)}`;
  switch (memory.kind) {
    case "file":
      return `memory-backend-file,${size},mem-path=${escape(memory.path)},share=on`;
    case "private":
      return `memory-backend-file,${size},mem-path=${escape(memory.path)},` +
        "share=off,readonly=on,rom=off";
    case "anonymous":
      return `memory-backend-memfd,${size},share=on` +
        (spec.hugepages ? ",hugetlb=on,hugetlbsize=2M" : "");
  }
}

function entropy(spec: MachineSpec): string[] {
  const device = `virtio-rng-pci,addr=${hex(ADDRESS.entropy)},rng=entropy`;
  const source = spec.entropySource === ""
    ? "rng-builtin,id=entropy"
    : `rng-random,id=entropy,filename=${escape(spec.entropySource)}`;
  return ["-object", source, "-device", device];
}

function network(spec: MachineSpec, firstTapFd: number): string[] {
  if (spec.network === "none") return [];
  const argv: string[] = [];
  const count = spec.network === "user" ? 1 : spec.interfaces;
  for (let index = 0; index < count; index++) {
    const backend = spec.network === "user"
      ? `user,id=net${index}`
      : `tap,id=net${index},fd=${firstTapFd + index}`;
    // The agent gives each the MAC address of its pod; this one only has to be there.
    const mac = `02:00:00:00:00:${(index + 1).toString(16).padStart(2, "0")}`;
    argv.push(
      "-netdev",
      backend,
      "-device",
      `virtio-net-pci,netdev=net${index},mac=${mac},romfile=,addr=${hex(index + 1)}`,
    );
  }
  return argv;
}

function sharedTree(place: MachinePlace): string[] {
  if (place.sharedTreeSocket === undefined) return [];
  return [
    "-chardev",
    `socket,id=share,path=${escape(socketPath(place.sharedTreeSocket))}`,
    "-device",
    `vhost-user-fs-pci,chardev=share,tag=${SHARED_TREE_TAG},addr=${hex(ADDRESS.sharedTree)}`,
  ];
}

function ports(): string[] {
  return Array.from({ length: HOTPLUG_PORTS }, (_, port) => [
    "-device",
    `pcie-root-port,id=${portName(port)},bus=pcie.0,addr=${address(ADDRESS.ports, port)},` +
    `chassis=${port + 1},slot=${port + 1}`,
  ]).flat();
}

/** Slots begin empty, also in a machine that is loaded: their images are attached before it goes on. */
function slots(spec: MachineSpec): string[] {
  return Array.from({ length: spec.diskSlots }, (_, slot) => {
    const { name, empty } = slotNames(slot);
    return [
      "-blockdev",
      `driver=null-co,node-name=${empty},size=${SLOT_BYTES},read-zeroes=on,read-only=on`,
      "-blockdev",
      `driver=raw,node-name=${name},file=${empty},read-only=on`,
      "-device",
      `virtio-blk-pci,id=${name},drive=${name},serial=${name},` +
      `addr=${address(ADDRESS.slots + Math.floor(slot / 8), slot % 8)}`,
    ];
  }).flat();
}

function plugged(start: MachineStart): string[] {
  if (start.kind !== "load") return [];
  return start.plugged.flatMap(({ port, path, serial }) => {
    const { device, file, node } = pluggedNames(port, serial);
    return [
      "-blockdev",
      `driver=file,node-name=${file},filename=${escape(path)},read-only=on,locking=off`,
      "-blockdev",
      `driver=raw,node-name=${node},file=${file},read-only=on`,
      "-device",
      `virtio-blk-pci,id=${device},drive=${node},serial=${serial},bus=${portName(port)}`,
    ];
  });
}

function beginning(spec: MachineSpec, start: MachineStart): string[] {
  if (start.kind === "boot") {
    return [
      "-kernel",
      spec.kernel,
      "-initrd",
      spec.initrd,
      "-append",
      kernelParameters(spec, start.tscKhz),
    ];
  }
  // Without a kernel: it is in the memory already, and reading it again takes its time.
  return [
    ...(start.paused ? ["-S"] : []),
    "-global",
    start.whole ? "migration.mapped-ram=on" : "migration.x-ignore-shared=on",
    "-global",
    "migration.announce-rounds=0",
    "-incoming",
    `file:${start.state}`,
  ];
}

/** The id of a root port. */
export function portName(port: number): string {
  return `port${port}`;
}

/** Names of a disk slot: of its device and node, and of the node behind it while it is empty. */
export function slotNames(slot: number): { readonly name: string; readonly empty: string } {
  return { name: `slot${slot}`, empty: `slot${slot}-empty` };
}

/** Name of the node of an image in a slot; `turn` tells one image from the next. */
export function imageNode(slot: number, turn: number): string {
  return `slot${slot}-image${turn}`;
}

/** Names of a disk that is plugged into a port. */
export function pluggedNames(
  port: number,
  serial: string,
): { readonly device: string; readonly file: string; readonly node: string } {
  return { device: `disk${port}-${serial}`, file: `disk${port}-file`, node: `disk${port}-node` };
}

function address(slot: number, part: number): string {
  return `${hex(slot)}.${part},multifunction=on`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function mebibytes(bytes: number): string {
  return `${bytes / 2 ** 20}M`;
}
