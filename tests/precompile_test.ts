/**
 * `quasaur images precompile` with containerd: the image's first pod starts compiled.
 *
 * @module
 */

import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { Bed } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import { run } from "./support/command.ts";
import { wasmImage } from "./support/oci_image.ts";
import { permissionFlags, REPOSITORY } from "./support/permissions.ts";

const IMAGE = "quasaur.test/precompiled:1";
const OTHER = "quasaur.test/not-precompiled:1";

/** Runs the command with its permission set, as it is in the bed. */
async function quasaur(bed: Bed, ...args: string[]) {
  const { paths } = bed.sandboxer("wasm");
  return await run([
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-prompt",
    `--config=${REPOSITORY}/deno.json`,
    ...permissionFlags(config.permissions.cli, paths.replacements),
    `${REPOSITORY}/cli/main.ts`,
    ...args,
  ], { check: false, env: { NO_COLOR: "1" } });
}

/** Digests of modules whose compiled code a process has mapped. */
async function mappedModules(pid: number): Promise<Set<string>> {
  const maps = await Deno.readTextFile(`/proc/${pid}/maps`);
  return new Set(
    [...maps.matchAll(/\/([0-9a-f]{64})\.[0-9a-f]{16}\.so$/gm)].map(([, d = ""]) => d),
  );
}

/** SHA-256 of a guest's module. */
async function digestOf(name: string): Promise<string> {
  const bytes = await Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Starts a pod with one sleeping container; answers its process's compiled modules. */
async function modulesOfFirstPod(bed: Bed, image: string): Promise<Set<string>> {
  using cri = bed.cri();
  await using pod = await cri.runPod({ handler: "quasaur-wasm", network: "host" });
  const container = await pod.startContainer({ name: "first", image });
  await container.printed(/^sleeping$/);
  const { pid } = bed.sandboxer("wasm").process;
  assert.ok(pid !== undefined);
  return await mappedModules(pid);
}

Deno.test("the first pod of a precompiled image starts compiled, that of another does not", async () => {
  await using bed = await Bed.start({ kinds: ["wasm"] });
  await withLogs(bed, async () => {
    const module = (name: string) => Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`);
    const hello = { kind: "file", path: "more/hello.wasm", data: await module("hello") } as const;
    // Another custom section makes it another module.
    const sleep = await module("sleep");
    const other = new Uint8Array([...sleep, 0, 3, 1, 0x78, 0]);
    await bed.containerd.importImage(wasmImage(IMAGE, sleep, { files: [hello] }));
    await bed.containerd.importImage(wasmImage(OTHER, other));

    const missing = await quasaur(
      bed,
      "images",
      "precompile",
      `--address=${bed.containerd.socketPath}`,
      `--cache-dir=${bed.sandboxer("wasm").paths.cacheDirectory}/wasm`,
      "quasaur.test/none:1",
    );
    assert.equal(missing.status, 127, missing.stderr);
    assert.match(missing.stderr, /cannot find image "quasaur.test\/none:1".*namespace "k8s.io"/);

    const { status, stdout, stderr } = await quasaur(
      bed,
      "images",
      "precompile",
      "--all",
      "--json",
      `--address=${bed.containerd.socketPath}`,
      `--cache-dir=${bed.sandboxer("wasm").paths.cacheDirectory}/wasm`,
      IMAGE,
    );
    assert.equal(status, 0, stderr);
    const rows: { module: string; digest: string; result: string }[] = JSON.parse(stdout);
    assert.deepEqual(rows.map(({ module, digest, result }) => [module, digest, result]), [
      ["/app.wasm", `sha256:${await digestOf("sleep")}`, "compiled"],
      ["/more/hello.wasm", `sha256:${await digestOf("hello")}`, "compiled"],
    ]);

    assert.ok(!(await modulesOfFirstPod(bed, OTHER)).has(await digestOf("sleep")));
    assert.ok((await modulesOfFirstPod(bed, IMAGE)).has(await digestOf("sleep")));
  });
});
