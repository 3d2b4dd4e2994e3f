// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task bundle`: everything that a machine needs to run Quasaur, in one directory
 * (`build/bundle/`) that can be moved as a whole: one minified JavaScript file for each program, the
 * permission sets, the native helpers, and what `quasaur install` puts into other places.
 *
 * @module
 */

import { buildHostLauncher } from "../sandboxers/host/native/build.ts";
import { buildNative, type NativeBuild } from "../sandboxers/wasm/native/build.ts";
import { LIBRARY_FILE } from "../sandboxers/wasm/native/library_file.ts";

/** Where the bundle goes unless somebody names another place. */
export const BUNDLE_DIRECTORY = "build/bundle";

/** Programs: the file that is made, and what it is made of. */
const PROGRAMS: readonly (readonly [file: string, entry: string])[] = [
  ["quasaur-wasm.js", "sandboxers/wasm/main.ts"],
  // Started by the launcher, for pods that want a process of their own.
  ["quasaur-wasm-pod.js", "sandboxers/wasm/pod_process/main.ts"],
  ["quasaur-vmm.js", "sandboxers/vmm/main.ts"],
  ["quasaur-quark.js", "sandboxers/quark/main.ts"],
  ["quasaur.js", "cli/main.ts"],
  // Started by quasaur.js, by this name.
  ["quasaur-v8-worker.js", "sandboxers/wasm/v8/worker.ts"],
];

/** Files that are taken as they are: where they are in the bundle, where here, and their mode. */
const FILES: readonly (readonly [to: string, from: string, mode: number])[] = [
  ["bin/quasaur", "deploy/bin/quasaur", 0o755],
  ["shim/containerd-shim-quasaur", "task/shim/containerd-shim-quasaur", 0o755],
  ["etc/vmm.toml", "deploy/vmm.toml", 0o644],
  ["etc/quark.toml", "deploy/quark.toml", 0o644],
  ...["wasm", "vmm", "quark"].flatMap((kind) =>
    [
      [`systemd/quasaur-${kind}.service`, `deploy/systemd/quasaur-${kind}.service`, 0o644],
      [`default/quasaur-${kind}`, `deploy/default/quasaur-${kind}`, 0o644],
    ] as const
  ),
  ["man/quasaur.1", "deploy/man/quasaur.1", 0o644],
  ...[
    "grafana/quasaur.json",
    "prometheus/quasaur-metrics@.service",
    "prometheus/quasaur-metrics@quark.socket",
    "prometheus/quasaur-metrics@vmm.socket",
    "prometheus/quasaur-metrics@wasm.socket",
    "prometheus/quasaur.rules.yaml",
    "prometheus/scrape.yaml",
  ].map((file) => [file, `deploy/${file}`, 0o644] as const),
  ["LICENSE", "LICENSE", 0o644],
];

/** What to bundle. */
export interface BundleOptions {
  /** Where the files go; made where it is missing. Default {@link BUNDLE_DIRECTORY}. */
  readonly outDir?: string;
  /** Where progress is told; nowhere by default. */
  readonly tell?: (line: string) => void;
}

/**
 * Bundles every program with what it needs. Runs in the root of the sources.
 *
 * @param options See {@link BundleOptions}.
 * @throws {Error} When a program cannot be bundled or a helper cannot be built.
 */
export async function bundle(options: BundleOptions = {}): Promise<void> {
  const { outDir = BUNDLE_DIRECTORY, tell = () => {} } = options;
  await Deno.mkdir(outDir, { recursive: true });
  const home = await Deno.realPath(outDir);
  const text = `${JSON.stringify(await configuration(), null, 2)}\n`;
  await Deno.writeTextFile(`${home}/deno.json`, text);
  await copyFiles(home);
  await linkDeno(`${home}/deno`);
  await Promise.all([
    // The cache that is made for the program of pods is made of its file.
    bundlePrograms(home).then(() =>
      Promise.all([buildNative(nativeBuild(home)), writeCompletions(home)])
    ),
    buildHostLauncher({ outDir: `${home}/native/build` }),
  ]);
  for (const [file] of PROGRAMS) {
    const { size } = await Deno.stat(`${home}/${file}`);
    tell(`${outDir}/${file}: ${Math.round(size / 1024)} KiB`);
  }
  tell(`${outDir}: complete; run it with ${outDir}/bin/quasaur, or install it: quasaur install`);
}

/** All at once: most of the time goes into starting the bundler. */
async function bundlePrograms(home: string): Promise<void> {
  const directory = await Deno.makeTempDir({ dir: home, prefix: ".new-" });
  try {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["bundle", "--platform", "deno", "--minify", "--external", DEVELOPMENT_ONLY],
        ...["--outdir", directory],
        ...PROGRAMS.map(([, entry]) => entry),
      ],
      env: { NO_COLOR: "1" },
    }).output();
    if (!success) {
      throw new Error(`cannot bundle the programs: ${new TextDecoder().decode(stderr)}`);
    }
    for (const [file, entry] of PROGRAMS) {
      const text = await Deno.readTextFile(`${directory}/${entry.replace(/\.ts$/, ".js")}`);
      await Deno.writeTextFile(`${home}/${file}`, withoutDevelopment(text));
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What a terminal library imports where a developer asks it to, and nobody has installed. */
const DEVELOPMENT_ONLY = "react-devtools-core";

/** In one file every import is made at the start: that one would fail, and nobody uses it. */
function withoutDevelopment(text: string): string {
  const code = text.replaceAll(
    new RegExp(`import ([\\w$]+) from\\s?"${DEVELOPMENT_ONLY}";`, "g"),
    "const $1=undefined;",
  );
  if (!new RegExp(`from\\s?"${DEVELOPMENT_ONLY}"`).test(code)) return code;
  throw new Error(`cannot bundle the programs: ${DEVELOPMENT_ONLY} is still imported`);
}

/** The helpers of the wasm sandboxer, for a bundle that may be moved. */
function nativeBuild(home: string): NativeBuild {
  return {
    outDir: `${home}/build`,
    pod: {
      main: `${home}/quasaur-wasm-pod.js`,
      config: `${home}/deno.json`,
      modules: [`${home}/build/${LIBRARY_FILE}`],
      cache: `${home}/build/deno-dir`,
      deno: `${home}/deno`,
      home,
    },
  };
}

/** What shells complete the command by. */
async function writeCompletions(home: string): Promise<void> {
  await Deno.mkdir(`${home}/completions`, { recursive: true });
  await Promise.all(["bash", "zsh", "fish"].map(async (shell) => {
    const { success, stdout, stderr } = await new Deno.Command(`${home}/bin/quasaur`, {
      args: ["completion", shell],
      env: { NO_COLOR: "1" },
    }).output();
    if (!success) {
      throw new Error(`cannot make completions for ${shell}: ${new TextDecoder().decode(stderr)}`);
    }
    await Deno.writeFile(`${home}/completions/${shell}`, stdout);
  }));
}

async function copyFiles(home: string): Promise<void> {
  for (const [to, from, mode] of FILES) {
    const path = `${home}/${to}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.copyFile(from, path);
    await Deno.chmod(path, mode);
  }
}

/** The deno that runs this: a link here, the program itself where the bundle is installed. */
async function linkDeno(path: string): Promise<void> {
  await Deno.remove(path).catch((error: unknown) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.symlink(await Deno.realPath(Deno.execPath()), path);
}

/** The version and the permission sets as they are, but for helpers, which lie beside the bundles. */
async function configuration(): Promise<Record<string, unknown>> {
  const source: unknown = JSON.parse(await Deno.readTextFile("deno.json"));
  if (typeof source !== "object" || source === null || !("permissions" in source)) {
    throw new Error("cannot bundle: deno.json has no permission sets");
  }
  const permissions: unknown = JSON.parse(
    JSON.stringify(source.permissions)
      .replaceAll("./sandboxers/wasm/native/build/", "./build/")
      .replaceAll("./sandboxers/host/native/build/", "./native/build/"),
  );
  return {
    version: "version" in source ? source.version : undefined,
    unstable: "unstable" in source ? source.unstable : [],
    permissions,
  };
}

if (import.meta.main) {
  await bundle({
    ...(Deno.args[0] === undefined ? {} : { outDir: Deno.args[0] }),
    tell: console.log,
  });
}
