/**
 * Builds the example and test guests from C with the clang, lld and wasi-libc of the machine's own
 * Debian release. Run at set-up: `deno run -A tests/guests/build.ts`.
 *
 * @module
 */

import { fileURLToPath } from "node:url";

/** The guests, by the name of their source file. */
export const GUESTS = [
  "args",
  "block",
  "cat",
  "cwd",
  "descriptors",
  "escape",
  "fannkuch",
  "flood",
  "fs",
  "hello",
  "lines",
  "memory",
  "nbody",
  "race",
  "raise",
  "recurse",
  "resolve",
  "server",
  "sha256",
  "sleep",
  "spin",
  "trap",
  "wasi",
  "wasi_sockets",
] as const;

/** The name of a guest. */
export type GuestName = typeof GUESTS[number];

/** Where the guests are built by default. */
export const GUESTS_BUILD_DIR: string = fileURLToPath(new URL("./build", import.meta.url));

const SOURCE_DIR = fileURLToPath(new URL(".", import.meta.url));

const MISSING = "install the Debian packages clang, lld, wasi-libc and libclang-rt-dev-wasm32";

/**
 * Compiles all guests to `<outDir>/<name>.wasm`.
 *
 * @param outDir A directory; made where it is missing.
 * @throws {Error} With the compiler's words, or the packages to install.
 */
export async function buildGuests(outDir: string = GUESTS_BUILD_DIR): Promise<void> {
  await Deno.mkdir(outDir, { recursive: true });
  for (const name of GUESTS) await buildGuest(outDir, name);
}

async function buildGuest(outDir: string, name: GuestName): Promise<void> {
  const output = `${outDir}/${name}.wasm`;
  const temporary = `${output}.${Deno.pid}.new`;
  const command = new Deno.Command("clang", {
    args: [
      "--target=wasm32-wasi",
      "-O2",
      "-Wall",
      "-Wextra",
      "-Werror",
      "-Wno-unused-result",
      "-Wl,--strip-all",
      "-o",
      temporary,
      `${SOURCE_DIR}${name}.c`,
    ],
  });
  const result = await command.output().catch((cause: unknown) => {
    throw new Error(`Cannot build the guest "${name}": no clang: ${MISSING}`, { cause });
  });
  if (!result.success) {
    const text = new TextDecoder().decode(result.stderr).trim();
    const hint = /wasm-ld|crt1|stdio\.h|libclang_rt/.test(text) ? `: ${MISSING}` : "";
    throw new Error(`Cannot build the guest "${name}": ${text}${hint}`);
  }
  await Deno.rename(temporary, output);
}

if (import.meta.main) await buildGuests();
