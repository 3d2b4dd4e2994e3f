/**
 * Bundle directories for tests, as containerd makes them.
 *
 * @module
 */

import { join } from "node:path";

/** What is in a bundle. */
export interface BundleOptions {
  /** What the file `sandbox` says; `sb1` when missing. */
  readonly sandboxId?: string;
  /** Replaces the whole config. */
  readonly config?: unknown;
}

/** A config.json that is good. */
export const GOOD_CONFIG = {
  ociVersion: "1.2.0",
  process: {
    args: ["/app.wasm", "--flag"],
    env: ["PATH=/bin", "A=b=c"],
    cwd: "/work",
    user: { uid: 1000, gid: 1001, additionalGids: [5, 6] },
  },
  root: { path: "rootfs", readonly: true },
  mounts: [{ destination: "/proc", type: "proc", source: "proc" }],
  annotations: { "io.kubernetes.cri.container-name": "app" },
};

/** Writes a bundle directory as containerd does. */
export async function writeBundle(path: string, options: BundleOptions = {}): Promise<string> {
  const { sandboxId = "sb1", config = GOOD_CONFIG } = options;
  await Deno.mkdir(join(path, "rootfs"), { recursive: true });
  await Deno.writeTextFile(join(path, "config.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(path, "sandbox"), sandboxId, { mode: 0o600 });
  return path;
}
