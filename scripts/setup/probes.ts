/**
 * Looks whether the machine has what is required, whoever installed it: by trying it, not by asking
 * the package manager.
 *
 * @module
 */

import { checkRunsc } from "../../sandboxers/quark/gvisor/runsc_version.ts";
import { run } from "../../tests/support/command.ts";
import {
  CONTAINERD_MINIMUM,
  EROFS_MINIMUM,
  QEMU_MINIMUM,
  RUNSC_MINIMUM,
  WASMEDGE_MINIMUM,
} from "../../sandboxers/minimum_versions.ts";
import { isAtLeast } from "../../sandboxers/versions.ts";
import type { RequirementId } from "./requirements.ts";

/** Where programs may be; a user's own PATH often lacks the administrator's directories. */
const PATH = `${
  Deno.env.get("PATH") ?? ""
}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin`;

/** Where CNI plugins may be. */
const CNI_DIRECTORIES = ["/usr/lib/cni", "/opt/cni/bin"];

/** Opens the library in a process of its own: a library that was just upgraded needs a fresh one. */
const WASMEDGE_VERSION = `
  const library = Deno.dlopen("libwasmedge.so.0", {
    WasmEdge_VersionGet: { parameters: [], result: "pointer" },
  });
  const text = library.symbols.WasmEdge_VersionGet();
  console.log(Deno.UnsafePointerView.getCString(text));
`;

/** What each requirement is found by; undefined means that it is missing or too old. */
const PROBES: Readonly<Record<RequirementId, () => Promise<string | undefined>>> = {
  "containerd": () => versionOf(["containerd", "--version"], CONTAINERD_MINIMUM),
  "wasmedge": () => versionOf([Deno.execPath(), "eval", WASMEDGE_VERSION], WASMEDGE_MINIMUM),
  "cc": () => compiles(["cc"], "#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n"),
  "wasm-cc": () =>
    compiles(
      ["clang", "--target=wasm32-wasi"],
      '#include <stdio.h>\nint main(void) { return puts("hello"); }\n',
    ),
  "ip": () => versionOf(["ip", "-V"], undefined),
  "cni": async () => {
    for (const directory of CNI_DIRECTORIES) {
      const plugins = ["bridge", "host-local", "loopback"];
      const there = await Promise.all(plugins.map((name) => isFile(`${directory}/${name}`)));
      if (there.every(Boolean)) return directory;
    }
    return undefined;
  },
  "runc": () => versionOf(["runc", "--version"], undefined),
  "busybox": () => versionOf(["busybox"], undefined),
  "wasmedge-cli": () => versionOf(["wasmedge", "--version"], WASMEDGE_MINIMUM),
  "qemu": () => versionOf(["qemu-system-x86_64", "--version"], QEMU_MINIMUM),
  "virtiofsd": () => versionOf(["/usr/libexec/virtiofsd", "--version"], undefined),
  "mkfs.erofs": () => versionOf(["mkfs.erofs", "--version"], EROFS_MINIMUM),
  "quickjs": quickjs,
  "decompressors": async () => {
    const [xz, zstd] = [["xz", "--version"], ["zstd", "--version"]] as const;
    const versions = await Promise.all([versionOf(xz, undefined), versionOf(zstd, undefined)]);
    return versions.every((version) => version !== undefined) ? versions.join(", ") : undefined;
  },
  "runsc": runsc,
  "tmux": () => versionOf(["tmux", "-V"], undefined),
};

/** The version of runsc with the Go that built it, and a warning where that build crashes. */
async function runsc(): Promise<string | undefined> {
  for (const directory of PATH.split(":")) {
    const program = `${directory}/runsc`;
    if (!await isFile(program)) continue;
    const found = await checkRunsc(program).catch(() => undefined);
    // Debian's versions and gVisor's own have the day in them: 0.0~20240729.0, release-20240729.0.
    const day = /\d{8}/.exec(found?.version ?? "")?.[0];
    if (found === undefined || day === undefined || day < RUNSC_MINIMUM) return undefined;
    const { version, go = "unknown", problem } = found;
    return `${version} (Go ${go})${problem === undefined ? "" : `, WARNING: ${problem}`}`;
  }
  return undefined;
}

/** The version of the QuickJS compiler, where its library is there too; it has no `--version`. */
async function quickjs(): Promise<string | undefined> {
  const help = await outputOf(["qjsc", "-h"], false);
  const libraries = await outputOf(["cc", "-print-search-dirs"]);
  const directories = /^libraries: =(.*)$/m.exec(libraries ?? "")?.[1]?.split(":") ?? [];
  const there = await Promise.all(
    directories.map((directory) => isFile(`${directory}/quickjs/libquickjs.a`)),
  );
  return there.some(Boolean) ? /version (\S+)/.exec(help ?? "")?.[1] : undefined;
}

/**
 * Looks for requirements.
 *
 * @param ids What to look for.
 * @returns What was found of them, by id: a version or a place.
 */
export async function probe(ids: readonly RequirementId[]): Promise<Map<RequirementId, string>> {
  const found = new Map<RequirementId, string>();
  await Promise.all(ids.map(async (id) => {
    const what = await PROBES[id]();
    if (what !== undefined) found.set(id, what);
  }));
  return found;
}

/** The first version number that a command prints, where it is enough. */
async function versionOf(
  command: readonly [string, ...string[]],
  minimum: string | undefined,
): Promise<string | undefined> {
  const output = await outputOf(command);
  const version = output === undefined ? undefined : /(?<![\d.])(\d+(?:\.\d+)+)/.exec(output)?.[1];
  return version !== undefined && isAtLeast(version, minimum) ? version : undefined;
}

/** Whether a compiler makes a program of a source; then the first line of its version. */
async function compiles(
  compiler: readonly [string, ...string[]],
  source: string,
): Promise<string | undefined> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-setup-" });
  try {
    await Deno.writeTextFile(`${directory}/probe.c`, source);
    const built = await outputOf([...compiler, "-o", `${directory}/probe`, `${directory}/probe.c`]);
    if (built === undefined) return undefined;
    return (await outputOf([compiler[0], "--version"]))?.split("\n")[0];
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What a command prints; undefined where it is not there or fails (unless that does not count). */
async function outputOf(
  command: readonly [string, ...string[]],
  check: boolean = true,
): Promise<string | undefined> {
  try {
    const env = { PATH, NO_COLOR: "1", LC_ALL: "C" };
    const { stdout, stderr } = await run(command, { env, timeoutMs: 30_000, check });
    return stdout + stderr;
  } catch {
    return undefined;
  }
}

/** Whether a file is there. */
async function isFile(path: string): Promise<boolean> {
  return (await Deno.stat(path).catch(() => undefined))?.isFile ?? false;
}
