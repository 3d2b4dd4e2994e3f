/**
 * What an installed Quasaur is made of: each file, where it goes and where it is in the bundle. The
 * Debian package and `quasaur install` put the same files into the same places.
 *
 * @module
 */

/** The sandboxers that can be installed. */
export const SANDBOXER_KINDS = ["wasm", "vmm", "quark"] as const;

/** One of {@link SANDBOXER_KINDS}. */
export type SandboxerKind = typeof SANDBOXER_KINDS[number];

/** Where the programs are, once they are installed. */
export const PROGRAM_DIRECTORY = "/usr/lib/quasaur";

/** Something that is put in place. */
export type InstalledItem =
  & {
    /** Where it goes, an absolute path without the prefix. */
    readonly path: string;
  }
  & (
    | {
      readonly type: "file";
      /** Where it is in the bundle. */
      readonly source: string;
      /** Its mode bits. */
      readonly mode: number;
      /** Whether people change it: what they wrote is kept. */
      readonly isConfig: boolean;
    }
    | {
      readonly type: "link";
      /** What it leads to. */
      readonly target: string;
    }
    | {
      readonly type: "directory";
    }
  );

/** The runtime handlers of each sandboxer: containerd wants a stub shim for each. */
const HANDLERS: Readonly<Record<SandboxerKind, readonly string[]>> = {
  wasm: ["wasm", "wasm-process"],
  vmm: ["vmm"],
  quark: ["gvisor", "quark"],
};

/** Kinds that have a configuration file. */
const CONFIGURED: readonly SandboxerKind[] = ["vmm", "quark"];

/** Shells, each with the file that it completes this command by. */
const COMPLETIONS: readonly (readonly [shell: string, path: string])[] = [
  ["bash", "/usr/share/bash-completion/completions/quasaur"],
  ["zsh", "/usr/share/zsh/vendor-completions/_quasaur"],
  ["fish", "/usr/share/fish/vendor_completions.d/quasaur.fish"],
];

/** What is not switched on by itself: for who scrapes metrics, and who looks at them. */
const MONITORING: readonly string[] = [
  "grafana/quasaur.json",
  "prometheus/quasaur-metrics@.service",
  ...SANDBOXER_KINDS.map((kind) => `prometheus/quasaur-metrics@${kind}.socket`),
  "prometheus/quasaur.rules.yaml",
  "prometheus/scrape.yaml",
];

/**
 * Everything that is put in place.
 *
 * @param kinds The sandboxers.
 */
export function installedItems(kinds: readonly SandboxerKind[]): InstalledItem[] {
  return [
    program("deno", 0o755),
    program("deno.json"),
    program("quasaur.js"),
    program("quasaur-v8-worker.js"),
    program("bin/quasaur", 0o755),
    program("shim/containerd-shim-quasaur", 0o755),
    program("build/libquasaur-guest.so"),
    program("build/quasaur-launcher", 0o755),
    { type: "directory", path: `${PROGRAM_DIRECTORY}/build/deno-dir` },
    program("native/build/quasaur-host-launcher", 0o755),
    program("native/build/pause-root/pause", 0o755),
    { type: "link", path: "/usr/bin/quasaur", target: "../lib/quasaur/bin/quasaur" },
    file("/usr/share/doc/quasaur/copyright", "LICENSE"),
    file("/usr/share/man/man1/quasaur.1", "man/quasaur.1"),
    ...COMPLETIONS.map(([shell, path]) => file(path, `completions/${shell}`)),
    ...MONITORING.map((source) => file(`/usr/share/quasaur/${source}`, source)),
    ...kinds.flatMap(itemsOf),
  ];
}

function itemsOf(kind: SandboxerKind): InstalledItem[] {
  const name = `quasaur-${kind}`;
  return [
    program(`${name}.js`),
    ...(kind === "wasm" ? [program(`${name}-pod.js`)] : []),
    file(`/usr/lib/systemd/system/${name}.service`, `systemd/${name}.service`),
    config(`/etc/default/${name}`, `default/${name}`),
    ...(CONFIGURED.includes(kind) ? [config(`/etc/quasaur/${kind}.toml`, `etc/${kind}.toml`)] : []),
    ...HANDLERS[kind].map((handler): InstalledItem => ({
      type: "link",
      path: `/usr/bin/containerd-shim-quasaur-${handler}-v1`,
      target: "../lib/quasaur/shim/containerd-shim-quasaur",
    })),
  ];
}

function program(source: string, mode = 0o644): InstalledItem {
  return { type: "file", path: `${PROGRAM_DIRECTORY}/${source}`, source, mode, isConfig: false };
}

function file(path: string, source: string): InstalledItem {
  return { type: "file", path, source, mode: 0o644, isConfig: false };
}

function config(path: string, source: string): InstalledItem {
  return { type: "file", path, source, mode: 0o644, isConfig: true };
}
