/**
 * The sections of containerd's configuration that Quasaur needs: for each sandboxer where it
 * listens, and for each runtime handler which sandboxer serves it. Pure data, in the words of the
 * file's version.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { tomlText } from "../../sandboxers/config/toml.ts";

/** What can be asked for: a sandboxer with all its handlers, or gVisor's handler alone. */
export const CONTAINERD_KINDS = ["wasm", "vmm", "quark", "gvisor"] as const;

/** One of {@link CONTAINERD_KINDS}. */
export type ContainerdKind = typeof CONTAINERD_KINDS[number];

/** The kinds that are taken where none is named: every sandboxer. */
export const DEFAULT_KINDS: readonly ContainerdKind[] = ["wasm", "vmm", "quark"];

/** The versions of containerd's configuration that are understood. */
export type ConfigVersion = 2 | 3;

/** A table of the configuration. */
export interface Section {
  /** Its keys from the root of the file. */
  readonly path: readonly string[];
  /** What has to be in it, all of it text. */
  readonly entries: readonly (readonly [key: string, value: string])[];
  /** What it is for, a line for people. */
  readonly purpose: string;
}

/** What is asked for. */
export interface Wanted {
  /** The kinds. */
  readonly kinds: readonly ContainerdKind[];
  /** The directory of the sandboxers' sockets, an absolute path. */
  readonly runDirectory: string;
}

/** A sandboxer with the handlers that are wanted of it, each with what its pods are. */
interface Sandboxer {
  readonly kind: string;
  readonly handlers: readonly (readonly [name: string, purpose: string])[];
}

const GVISOR = ["quasaur-gvisor", "pods that have gVisor as their kernel"] as const;

const SANDBOXERS: Readonly<Record<ContainerdKind, Sandboxer>> = {
  wasm: {
    kind: "wasm",
    handlers: [
      ["quasaur-wasm", "pods of WebAssembly, on threads of the sandboxer"],
      ["quasaur-wasm-process", "pods of WebAssembly, each in a process of its own"],
    ],
  },
  vmm: { kind: "vmm", handlers: [["quasaur-vmm", "pods that are microVMs"]] },
  quark: {
    kind: "quark",
    handlers: [GVISOR, ["quasaur-quark", "pods that have Quark as their kernel"]],
  },
  gvisor: { kind: "quark", handlers: [GVISOR] },
};

/** Where runtime handlers are, by the version of the file. */
const RUNTIMES: Readonly<Record<ConfigVersion, readonly string[]>> = {
  2: ["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"],
  3: ["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"],
};

/**
 * Reads the names of kinds; none stands for {@link DEFAULT_KINDS}.
 *
 * @param names As the command line has them.
 * @throws {SandboxError} `InvalidArgument` for a name that is unknown.
 */
export function readKinds(names: readonly string[]): readonly ContainerdKind[] {
  if (names.length === 0) return DEFAULT_KINDS;
  const kinds = names.map((name) => {
    const kind = CONTAINERD_KINDS.find((candidate) => candidate === name);
    if (kind !== undefined) return kind;
    throw new SandboxError(
      "InvalidArgument",
      `invalid --kind ${JSON.stringify(name)}: expected one of ${CONTAINERD_KINDS.join(", ")}`,
    );
  });
  return CONTAINERD_KINDS.filter((kind) => kinds.includes(kind));
}

/**
 * The sections that are needed, in the order in which they are written.
 *
 * @param version The version of the file.
 * @param wanted What is asked for.
 */
export function sectionsFor(version: ConfigVersion, wanted: Wanted): Section[] {
  const sections = new Map<string, Section>();
  for (const kind of wanted.kinds) {
    const sandboxer = SANDBOXERS[kind];
    const name = `quasaur-${sandboxer.kind}`;
    sections.set(`sandboxer ${name}`, {
      path: ["proxy_plugins", name],
      entries: [["type", "sandbox"], ["address", `${wanted.runDirectory}/${sandboxer.kind}.sock`]],
      purpose: `where the ${sandboxer.kind} sandboxer of Quasaur listens`,
    });
    for (const [handler, purpose] of sandboxer.handlers) {
      sections.set(`handler ${handler}`, {
        path: [...RUNTIMES[version], handler],
        entries: [["runtime_type", `io.containerd.${handler}.v1`], ["sandboxer", name]],
        purpose,
      });
    }
  }
  return [...sections.values()];
}

/** The runtime handlers of kinds, by name. */
export function handlersOf(kinds: readonly ContainerdKind[]): string[] {
  return [...new Set(kinds.flatMap((kind) => SANDBOXERS[kind].handlers.map(([name]) => name)))];
}

/**
 * A section as text, with its purpose above it.
 *
 * @param section The section.
 */
export function sectionText({ path, entries, purpose }: Section): string {
  const lines = entries.map(([key, value]) => `  ${key} = ${tomlText(value)}\n`);
  return `# ${purpose}\n[${path.map(keyText).join(".")}]\n${lines.join("")}`;
}

/**
 * The keys of a section as people write them.
 *
 * @param path The keys.
 */
export function pathText(path: readonly string[]): string {
  return path.map(keyText).join(".");
}

/**
 * A key as TOML writes it: bare where it can be.
 *
 * @param key The key.
 */
export function keyText(key: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(key)) return key;
  return key.includes("'") ? tomlText(key) : `'${key}'`;
}
