/**
 * The commands that mend what is missing.
 *
 * @module
 */

import type { DoctorHost } from "./host.ts";

/** Files that set-up builds, and what else makes them. */
export type Built = "wasm-helper" | "host-launcher" | "guest-image";

/** How each is built from the sources. */
const BUILD_COMMANDS: Readonly<Record<Built, string>> = {
  "wasm-helper": "deno run -A sandboxers/wasm/native/build.ts",
  "host-launcher": "deno run -A sandboxers/host/native/build.ts",
  "guest-image": "deno task guest:image",
};

/** Which package of ours has them. */
const OWN_PACKAGE = "quasaur";

/**
 * The command that installs packages.
 *
 * @param packages Debian's names.
 */
export function installing(host: DoctorHost, ...packages: readonly string[]): string {
  // Set-up knows which suite has versions that will do.
  return host.isSourceTree ? "deno task setup" : `apt-get install --yes ${packages.join(" ")}`;
}

/** The command that brings a file of ours. */
export function building(host: DoctorHost, what: Built): string {
  return host.isSourceTree
    ? BUILD_COMMANDS[what]
    : `apt-get install --reinstall --yes ${OWN_PACKAGE}`;
}

/** The command that brings the sections of kinds into containerd's configuration. */
export function configuring(host: DoctorHost, kinds: readonly string[]): string {
  const flags = kinds.map((kind) => ` --kind ${kind}`).join("");
  return `${quasaur(host)} containerd config --apply${flags}`;
}

/** How this command is called. */
export function quasaur(host: DoctorHost): string {
  return host.isSourceTree ? "deno task quasaur" : "quasaur";
}
