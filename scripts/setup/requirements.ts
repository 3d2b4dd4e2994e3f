/**
 * What the machine must have: for what, and which Debian packages bring it.
 *
 * @module
 */

import {
  CONTAINERD_MINIMUM,
  EROFS_MINIMUM,
  QEMU_MINIMUM,
  RUNSC_MINIMUM,
  WASMEDGE_MINIMUM,
} from "../../sandboxers/minimum_versions.ts";
import { FIXED_SUITE } from "./newer_suite.ts";

/** What a set-up is for. */
export type Purpose = "demo" | "test" | "bench";

/** All purposes. */
export const PURPOSES: readonly Purpose[] = ["demo", "test", "bench"];

/** A package and the oldest version that will do. */
export interface PackageNeed {
  /** The package's name; `{clang}` stands for the major version of the chosen clang. */
  readonly name: string;
  /** The oldest version that will do; any, where it is missing. */
  readonly atLeast?: string;
}

/** The names of the requirements. */
export type RequirementId =
  | "containerd"
  | "wasmedge"
  | "cc"
  | "wasm-cc"
  | "ip"
  | "cni"
  | "runc"
  | "busybox"
  | "wasmedge-cli"
  | "qemu"
  | "virtiofsd"
  | "mkfs.erofs"
  | "quickjs"
  | "decompressors"
  | "runsc"
  | "tmux";

/** Something that the machine must have. */
export interface Requirement {
  /** Its name here. */
  readonly id: RequirementId;
  /** What it is, for people. */
  readonly title: string;
  /** What it is needed for, for people. */
  readonly why: string;
  /** What it is needed for. */
  readonly purposes: readonly Purpose[];
  /** The Debian packages that bring it. */
  readonly packages: readonly PackageNeed[];
  /** The only suite whose packages will do; the machine's own or a newer one, where it is missing. */
  readonly suite?: string;
}

/** Everything that is needed for anything. */
export const REQUIREMENTS: readonly Requirement[] = [
  {
    id: "containerd",
    title: `containerd ${CONTAINERD_MINIMUM} or newer`,
    why: "it drives the sandboxers",
    purposes: PURPOSES,
    packages: [{ name: "containerd", atLeast: CONTAINERD_MINIMUM }],
  },
  {
    id: "wasmedge",
    title: `WasmEdge library ${WASMEDGE_MINIMUM} or newer`,
    why: "it runs WebAssembly in the wasm sandboxer",
    purposes: PURPOSES,
    packages: [{ name: "libwasmedge0", atLeast: WASMEDGE_MINIMUM }],
  },
  {
    id: "cc",
    title: "C compiler",
    why: "it builds the native helper of the wasm sandboxer",
    purposes: PURPOSES,
    packages: [{ name: "gcc" }, { name: "libc6-dev" }],
  },
  {
    id: "wasm-cc",
    title: "C compiler for WebAssembly",
    why: "it builds the example modules",
    purposes: PURPOSES,
    packages: [
      { name: "clang" },
      { name: "lld" },
      { name: "wasi-libc" },
      { name: "libclang-rt-{clang}-dev-wasm32" },
    ],
  },
  {
    id: "ip",
    title: "ip command",
    why: "it finds a free network for test pods",
    purposes: PURPOSES,
    packages: [{ name: "iproute2" }],
  },
  {
    id: "cni",
    title: "CNI plugins",
    why: "they give pods their network",
    purposes: PURPOSES,
    packages: [{ name: "containernetworking-plugins" }],
  },
  {
    id: "runc",
    title: "runc",
    why: "the same tests run against it, and it is the peer of the benchmarks",
    purposes: ["test", "bench"],
    packages: [{ name: "runc" }],
  },
  {
    id: "busybox",
    title: "busybox",
    why: "it fills the images of runc's containers and of the demo's microVM",
    purposes: PURPOSES,
    packages: [{ name: "busybox-static" }],
  },
  {
    id: "wasmedge-cli",
    title: `wasmedge command ${WASMEDGE_MINIMUM} or newer`,
    why: "it is a peer of the benchmarks",
    purposes: ["bench"],
    packages: [{ name: "wasmedge", atLeast: WASMEDGE_MINIMUM }],
  },
  {
    id: "qemu",
    title: `QEMU ${QEMU_MINIMUM} or newer`,
    why: "it runs the microVMs of the vmm sandboxer",
    purposes: PURPOSES,
    packages: [{ name: "qemu-system-x86", atLeast: QEMU_MINIMUM }],
  },
  {
    id: "virtiofsd",
    title: "virtiofsd",
    why: "it shares volumes with microVMs",
    purposes: PURPOSES,
    packages: [{ name: "virtiofsd" }],
  },
  {
    id: "mkfs.erofs",
    title: `mkfs.erofs ${EROFS_MINIMUM} or newer`,
    why: "it makes the images that microVMs have their containers' files from",
    purposes: PURPOSES,
    packages: [{ name: "erofs-utils", atLeast: EROFS_MINIMUM }],
  },
  {
    id: "quickjs",
    title: "QuickJS compiler and library",
    why: "they build the agent of microVMs",
    purposes: PURPOSES,
    packages: [{ name: "quickjs" }, { name: "libquickjs" }],
  },
  {
    id: "decompressors",
    title: "xz and zstd",
    why: "they unpack the kernel of microVMs and its modules",
    purposes: PURPOSES,
    packages: [{ name: "xz-utils" }, { name: "zstd" }],
  },
  {
    id: "runsc",
    title: "gVisor's runsc",
    why: "it runs the sandboxes of gVisor",
    purposes: PURPOSES,
    packages: [{ name: "runsc", atLeast: `0.0~${RUNSC_MINIMUM}` }],
    // The same release built with a newer Go crashes in about one run of ten.
    suite: FIXED_SUITE,
  },
  {
    id: "tmux",
    title: "tmux",
    why: "it is the terminal in which quasaur top is tested",
    purposes: ["test"],
    packages: [{ name: "tmux" }],
  },
];

/**
 * The requirements of some purposes.
 *
 * @param purposes At least one.
 */
export function requirementsFor(purposes: readonly Purpose[]): Requirement[] {
  return REQUIREMENTS.filter((requirement) =>
    requirement.purposes.some((purpose) => purposes.includes(purpose))
  );
}
