/**
 * The schema of `vmm.toml`: every key with its type, its default and what it is for.
 *
 * @module
 */

import { GUEST_DIRECTORY } from "../../../guest/image/paths.ts";
import { type Section, section, setting } from "../../config/schema.ts";
import {
  choice,
  FLAG,
  integer,
  list,
  numberOr,
  PATH,
  PATH_OR_NONE,
  text,
} from "../../config/value_types.ts";
import { LOG_LEVELS } from "../../log.ts";
import { INTERFACES_MAX, SLOTS_MAX } from "../qemu/command_line.ts";
import {
  ANNOTATION_NAMES,
  type HypervisorSection,
  type LimitsSection,
  type NetworkSection,
  type SandboxSection,
  type StorageSection,
  type TemplateSection,
  type VmmConfig,
} from "./config.ts";

/** Where a kernel and an agent with nothing else still come up, in MiB. */
export const GUEST_MEMORY_MIN_MB = 96;

/** Most memory that a machine can be given, in MiB: 1 TiB. */
const MEMORY_MAX_MB = 1 << 20;

/** Most CPUs that one machine can have. */
const VCPUS_MAX = 240;

/** The first of the user ids of VMMs, far above those of people, services and containers. */
export const RUN_AS_BASE = 1_879_048_192;

const sandbox: Section<SandboxSection> = section("The sandboxer itself.", {
  logLevel: setting(choice(LOG_LEVELS), "info", "What is logged. The flag --log-level goes first."),
});

const hypervisor: Section<HypervisorSection> = section("The machines.", {
  path: setting(PATH, "/usr/bin/qemu-system-x86_64", "The VMM: QEMU."),
  accelerator: setting(
    choice(["auto", "kvm", "tcg"]),
    "auto",
    "Who executes the code of guests. auto tries KVM with a tiny guest once per boot of the host",
    "and takes TCG (emulation) where that fails.",
  ),
  machineType: setting(
    choice(["microvm", "q35"]),
    "microvm",
    "microvm starts faster; q35 is an ordinary PC, which CPUs and memory can be added to.",
  ),
  machineAccelerators: setting(
    text(/^([\w.-]+=[\w.-]+(,[\w.-]+=[\w.-]+)*)?$/, `options such as "a=on,b=off", or ""`),
    "",
    "Further options of the machine type, as QEMU's -machine takes them.",
  ),
  cpuModel: setting(
    text(/^[\w.+=,-]*$/, `a CPU model of QEMU, or ""`),
    "",
    "The CPU that guests see; empty for the best that the accelerator has.",
  ),
  vcpus: setting(integer(1, VCPUS_MAX), 1, "CPUs of a pod without a CPU limit of its own."),
  memoryInMb: setting(
    integer(GUEST_MEMORY_MIN_MB, MEMORY_MAX_MB, "MiB"),
    256,
    "Memory of a pod without a memory limit of its own. The guest's kernel and the agent need",
    "about 72 MiB of it.",
  ),
  imagePath: setting(
    PATH,
    GUEST_DIRECTORY,
    "The directory of the guest's kernel and initrd, as `deno task guest:image` makes it.",
  ),
  kernelPath: setting(
    PATH_OR_NONE,
    "",
    "A kernel to boot in the place of that in image_path: an uncompressed vmlinux with a PVH entry.",
  ),
  initrdPath: setting(
    PATH_OR_NONE,
    "",
    "An initrd to boot in the place of that in image_path. It has to hold the guest agent.",
  ),
  kernelParams: setting(
    text(/^[\x20-\x7e]{0,1024}$/, "up to 1024 printable ASCII characters"),
    "",
    "Kernel parameters beside those that are always there.",
  ),
  hugepages: setting(
    FLAG,
    false,
    "Memory of guests in huge pages. They have to be set aside on the host (vm.nr_hugepages), and",
    "machines are then booted: saved ones cannot be shared.",
  ),
  entropySource: setting(PATH, "/dev/urandom", "Where the guests' entropy comes from."),
  shareFs: setting(
    choice(["auto", "virtiofs", "none"], { VirtioFS: "virtiofs", "virtio-fs": "virtiofs" }),
    "auto",
    "Whether a pod gets a tree of files that is alive on both sides. auto: where a volume needs",
    "it; virtiofs: always; none: never, and volumes that need it are refused.",
  ),
  blockDeviceDriver: setting(
    choice(["virtio-blk"], { VirtioBlk: "virtio-blk" }),
    "virtio-blk",
    "How disks are attached.",
  ),
  debug: setting(
    FLAG,
    false,
    "Keep what the guest's console says in the file console.log of the pod's directory.",
  ),
  readyTimeoutInS: setting(
    integer(1, 3600, "s"),
    60,
    "How long a guest may take from its start until its agent answers; a pod whose guest takes longer",
    "cannot be started. A guest that is emulated on a busy host is slow.",
  ),
  runAs: setting(
    numberOr(integer(1, 4_294_000_000), choice(["root"])),
    RUN_AS_BASE,
    "VMMs run as unprivileged users, each with an id of its own; this is the first, and the group",
    `of all. "root": they run as the sandboxer does.`,
  ),
  virtiofsd: section("The server of shared trees.", {
    path: setting(PATH, "/usr/libexec/virtiofsd", "The program."),
    cache: setting(
      choice(["never", "auto", "always"]),
      "auto",
      "What a guest may keep of the files: never sees every change of the host at once and is many",
      "times slower.",
    ),
    threadPoolSize: setting(integer(0, 64), 0, "Threads beside its own; 0 for none."),
    logLevel: setting(
      choice(["error", "warn", "info", "debug", "trace", "off"]),
      "error",
      "What it logs.",
    ),
  }),
});

const template: Section<TemplateSection> = section(
  [
    "Templates: a machine that was booted once is saved, and pods start as clones that share its",
    "memory until they write to it.",
  ],
  {
    enable: setting(FLAG, true, "Off: every pod boots its own machine."),
    pool: setting(integer(0, 1000), 0, "How many clones are kept ready, loaded and paused."),
    rehearse: setting(
      choice(["none", "setup", "container"]),
      "none",
      "Whether clones that are kept ready have walked through a start before: its network set-up, or",
      "also the making of a container. Emulated code is slow when it runs for the first time; each",
      "such clone takes 35 or 75 MiB more.",
    ),
    directory: setting(
      PATH_OR_NONE,
      "",
      "Where templates are kept; empty for the directory `templates` below --dir. A tmpfs is",
      "fastest.",
    ),
    countMax: setting(
      integer(1, 100),
      8,
      "How many templates are kept. Each size of pod has its own; the one unused longest goes.",
    ),
    memoryStepInMb: setting(
      integer(2, 4096, "MiB"),
      64,
      "Memory of pods is rounded up to multiples of this, so that few templates serve many sizes.",
    ),
  },
);

const network: Section<NetworkSection> = section("How machines are connected.", {
  interfaces: setting(
    integer(1, INTERFACES_MAX),
    1,
    "How many network interfaces a machine that is made before its pod has. A pod with more gets",
    "a machine of its own.",
  ),
});

const storage: Section<StorageSection> = section("Files of containers.", {
  cacheDirectory: setting(
    PATH,
    "/var/cache/quasaur/vmm/images",
    "Where images of root file systems are kept, for the next container of the same image.",
  ),
  cacheMaxInMb: setting(
    integer(64, MEMORY_MAX_MB, "MiB"),
    8192,
    "How much they may take together; those unused longest go first.",
  ),
  compression: setting(
    choice(["none", "lz4"]),
    "none",
    "Whether file content in them is compressed: half the room, and several times the time to make.",
  ),
  diskSlots: setting(
    integer(0, SLOTS_MAX),
    4,
    "How many containers' root file systems a machine takes without plugging in a device.",
  ),
});

const limits: Section<LimitsSection> = section("How far pods may go.", {
  maxVcpus: setting(
    integer(0, VCPUS_MAX),
    0,
    "Most CPUs of a pod; 0 for as many as the host has. A pod with a higher limit gets this many;",
    "an annotation that asks for more is refused.",
  ),
  maxMemoryInMb: setting(
    integer(GUEST_MEMORY_MIN_MB, MEMORY_MAX_MB, "MiB"),
    32_768,
    "Most memory of a pod's machine. Pods that need more are refused.",
  ),
  annotations: setting(
    list(choice(ANNOTATION_NAMES)),
    ["vcpus", "memory-in-mb", "share-fs"],
    "Which annotations (quasaur.dev/NAME) pods may use. Others are refused.",
  ),
});

/** The schema. */
export const VMM_SCHEMA: Section<VmmConfig> = section("", {
  sandbox,
  hypervisor,
  template,
  network,
  storage,
  limits,
});

/** Keys of the files that users of Kuasar and Kata Containers know, and what stands for them. */
export const FOREIGN_KEYS: Readonly<Record<string, string>> = {
  "sandbox.enable_tracing": "there is no tracing: remove it",
  "hypervisor.qemu_path": 'it is called "hypervisor.path"',
  "hypervisor.default_vcpus": 'it is called "hypervisor.vcpus"',
  "hypervisor.default_memory": 'it is called "hypervisor.memory_in_mb"',
  "hypervisor.default_max_vcpus": 'it is called "limits.max_vcpus"',
  "hypervisor.default_maxvcpus": 'it is called "limits.max_vcpus"',
  "hypervisor.default_maxmemory": 'it is called "limits.max_memory_in_mb"',
  "hypervisor.enable_annotations": 'it is called "limits.annotations"',
  "hypervisor.enable_template": 'it is called "template.enable"',
  "hypervisor.shared_fs": 'it is called "hypervisor.share_fs"',
  "hypervisor.enable_debug": 'it is called "hypervisor.debug"',
  "hypervisor.enable_hugepages": 'it is called "hypervisor.hugepages"',
  "hypervisor.virtio_fs_daemon": 'it is called "hypervisor.virtiofsd.path"',
  "hypervisor.virtio_fs_cache": 'it is called "hypervisor.virtiofsd.cache"',
  "hypervisor.virtiofs_daemon_path": 'it is called "hypervisor.virtiofsd.path"',
  "hypervisor.virtiofs_cache": 'it is called "hypervisor.virtiofsd.cache"',
  "hypervisor.virtiofsd_conf": 'it is called "hypervisor.virtiofsd"',
  "hypervisor.firmware": "machines boot their kernel without firmware: remove it",
  "hypervisor.firmware_path": "machines boot their kernel without firmware: remove it",
  "hypervisor.use_vsock": "the agent is reached over virtio-serial: remove it",
  "hypervisor.msize_9p": "there is no 9p: use hypervisor.share_fs",
  "hypervisor.virtio_9p_direct_io": "there is no 9p: use hypervisor.share_fs",
  "hypervisor.virtio_9p_multidevs": "there is no 9p: use hypervisor.share_fs",
  "hypervisor.enable_mem_prealloc":
    "memory is shared with the template until it is written: remove it",
  "hypervisor.mem_prealloc": "memory is shared with the template until it is written: remove it",
  "hypervisor.task": "the agent follows hypervisor.debug: remove it",
  "hypervisor.virtiofsd.socket_path": "the sandboxer chooses it: remove it",
  "hypervisor.virtiofsd.shared_dir": "the sandboxer chooses it: remove it",
  "hypervisor.virtiofsd.syslog": "it logs to a file of the pod's directory: remove it",
};
