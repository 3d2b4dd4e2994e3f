// deno-lint-ignore-file no-console -- a script talks to a person
/**
 * `deno task bundle`: one minified JavaScript file per program, with the native helper and the
 * permission sets beside it, in `build/bundle/`. Run them there with
 * `deno run -P=wasm quasaur-wasm.js`.
 *
 * @module
 */

import { buildHostLauncher } from "../sandboxers/host/native/build.ts";
import { buildNative } from "../sandboxers/wasm/native/build.ts";

const OUT = "build/bundle";

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

/**
 * Bundles every program.
 *
 * @param outDir Where the files go; made where it is missing.
 */
export async function bundle(outDir: string = OUT): Promise<void> {
  await Deno.mkdir(outDir, { recursive: true });
  for (const [file, entry] of PROGRAMS) {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["bundle", "--platform", "deno", "--minify", "-o", `${outDir}/${file}`, entry],
    }).output();
    if (!success) throw new Error(`cannot bundle ${entry}: ${new TextDecoder().decode(stderr)}`);
    const { size } = await Deno.stat(`${outDir}/${file}`);
    console.log(`${outDir}/${file}: ${Math.round(size / 1024)} KiB`);
  }
  await Deno.writeTextFile(`${outDir}/deno.json`, JSON.stringify(await configuration(), null, 2));
  await buildHostLauncher({ outDir: `${outDir}/native/build` });
  const directory = await Deno.realPath(outDir);
  await buildNative({
    outDir: `${outDir}/build`,
    pod: {
      main: `${directory}/quasaur-wasm-pod.js`,
      config: `${directory}/deno.json`,
      modules: [directory],
      cache: `${directory}/build/deno-dir`,
    },
  });
}

/** The permission sets as they are, but for the library, which lies beside the bundles. */
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
  return { unstable: "unstable" in source ? source.unstable : [], permissions };
}

if (import.meta.main) await bundle();
