/**
 * The wasm sandboxer as a target of the black-box suite.
 *
 * @module
 */

import { GUESTS, GUESTS_BUILD_DIR } from "../guests/build.ts";
import type { TarEntry } from "../support/tar.ts";
import { NOTES, type Target } from "./target.ts";

/** The image with all guests. */
export const WASM_IMAGE = "quasaur.test/wasm:1";

/** The files of the image: every guest at `/<name>.wasm`. */
export async function guestFiles(): Promise<TarEntry[]> {
  return await Promise.all(GUESTS.map(async (name): Promise<TarEntry> => ({
    kind: "file",
    path: `${name}.wasm`,
    data: await Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`),
    mode: 0o755,
  })));
}

/** Pods of the wasm sandboxer. */
export const wasmTarget: Target = {
  name: "wasm",
  handler: "quasaur-wasm",
  bed: { kinds: ["wasm"] },
  image: WASM_IMAGE,
  importImages: async (bed) => {
    await bed.containerd.importImage({
      reference: WASM_IMAGE,
      files: [...await guestFiles(), ...NOTES],
      entrypoint: ["/args.wasm"],
      env: ["FROM_IMAGE=yes"],
    });
  },
  path: (program) => `/${program}.wasm`,
  // WASI has no working directory: a guest learns it from PWD.
  greeting: "hello from wasm",
  podsAtOnce: 50,
  abilities: {
    hostNetwork: true,
    shell: false,
    workingDirectory: false,
    exec: true,
    terminal: false,
    update: true,
    pause: true,
    memoryLimit: "refuses",
  },
};

/** Pods of the wasm sandboxer, each in a process of its own. */
export const wasmProcessTarget: Target = {
  ...wasmTarget,
  name: "wasm in a process",
  handler: "quasaur-wasm-process",
  podsAtOnce: 10,
};
