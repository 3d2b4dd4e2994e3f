/**
 * The config.json of a container that came without one: what runc and containerd give a container
 * that asks for nothing special.
 *
 * Source: containerd pkg/oci/spec.go (populateDefaultUnixSpec) and pkg/oci/mounts.go.
 *
 * @module
 */

import type { ContainerSpec, SeccompAction, SeccompSpec } from "../lifecycle/spec.ts";
import type { JsonObject } from "./json.ts";
import { DEFAULT_CAPABILITIES, processObject } from "./process.ts";
import { resourcesObject } from "./resources.ts";

const MOUNTS: readonly JsonObject[] = [
  mount("/proc", "proc", ["nosuid", "noexec", "nodev"]),
  mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
  mount("/dev/pts", "devpts", [
    ...["nosuid", "noexec", "newinstance"],
    ...["ptmxmode=0666", "mode=0620", "gid=5"],
  ]),
  mount("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
  mount("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
  mount("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
  mount("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

const MASKED_PATHS = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
];

const READONLY_PATHS = [
  "/proc/bus",
  "/proc/fs",
  "/proc/irq",
  "/proc/sys",
  "/proc/sysrq-trigger",
];

/**
 * Makes a config.json.
 *
 * @param spec The container.
 */
export function defaultConfig(spec: ContainerSpec): JsonObject {
  return {
    ociVersion: "1.2.0",
    process: processObject({ capabilities: DEFAULT_CAPABILITIES, ...spec.process }),
    root: { path: "rootfs", readonly: spec.readonlyRootfs },
    mounts: MOUNTS,
    linux: {
      namespaces: [{ type: "pid" }, { type: "mount" }, { type: "ipc", path: "pod" }],
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        ...resourcesObject(spec.resources),
      },
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      ...(spec.seccomp === undefined ? {} : { seccomp: seccompObject(spec.seccomp) }),
    },
  };
}

function mount(destination: string, type: string, options: readonly string[]): JsonObject {
  return { destination, type, source: type, options };
}

function seccompObject({ defaultAction, rules }: SeccompSpec): JsonObject {
  const { action, errnoRet } = actionOf(defaultAction);
  return {
    defaultAction: action,
    ...(errnoRet === undefined ? {} : { defaultErrnoRet: errnoRet }),
    architectures: [
      ...(Deno.build.arch === "aarch64"
        ? ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        : ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    ],
    syscalls: rules.map(({ names, action, args }) => ({
      names,
      ...actionOf(action),
      args: args.map(({ index, operator, value, valueTwo }) => ({
        index,
        value: Number(value),
        valueTwo: Number(valueTwo),
        op: `SCMP_CMP_${operator.toUpperCase().replace("-", "_")}`,
      })),
    })),
  };
}

function actionOf(action: SeccompAction): { readonly action: string; readonly errnoRet?: number } {
  return action.kind === "allow"
    ? { action: "SCMP_ACT_ALLOW" }
    : { action: "SCMP_ACT_ERRNO", errnoRet: action.errno };
}
