/**
 * Mounts by the launcher: root file systems of containers, and files and directories that a
 * container's volumes show. For sandboxers without FFI, in whose mount namespace it all happens.
 *
 * @module
 */

import type { Mounter } from "../lifecycle/mounter.ts";
import type { RootfsMount } from "../lifecycle/spec.ts";
import { makeLayerDirectories, needsLayerDirectories } from "../memory_layer.ts";
import { type ParsedMount, parseMount, splitLayers } from "../mount_options.ts";
import type { Launcher } from "./launcher.ts";

/** mount(2) takes one page of data; on every page size at least this. */
const DATA_BYTES_MAX = 4_095;

/** A file or directory to show at another place. */
export interface BindMount {
  /** What is shown, an absolute path; links are followed. */
  readonly source: string;
  /** Where: an existing file or directory, as the source is; links are not followed. */
  readonly target: string;
  /** Whether it, and all that is mounted below it, can only be read there. */
  readonly readonly: boolean;
  /** Whether what is mounted below the source is shown too. */
  readonly recursive: boolean;
}

/** Mounts and unmounts. */
export class HostMounter implements Mounter {
  readonly #launcher: Launcher;

  /**
   * Mounts nothing yet.
   *
   * @param launcher The launcher.
   */
  constructor(launcher: Launcher) {
    this.#launcher = launcher;
  }

  /** See {@link Mounter.mount}. */
  async mount(mounts: readonly RootfsMount[], target: string): Promise<void> {
    const parsed = mounts.map(parseMount);
    const layered = parsed.findIndex((mount) => needsLayerDirectories(mount, target));
    if (layered < 1) return await this.#mountAll(parsed, target);
    await this.#mountAll(parsed.slice(0, layered), target);
    try {
      for (const mount of parsed.slice(layered)) {
        await makeLayerDirectories(mount, target);
        await this.#mountAll([mount], target);
      }
    } catch (error) {
      await this.unmount(target);
      throw error;
    }
  }

  /** On failure none of them stays mounted. */
  async #mountAll(mounts: readonly ParsedMount[], target: string): Promise<void> {
    const args = mounts.flatMap(({ type, source, flags, data }) => {
      const isLong = new TextEncoder().encode(data.join(",")).length > DATA_BYTES_MAX;
      const options = isLong ? optionByOption(data) : [data.join(",")];
      const kind = isLong ? `${type}-by-option` : type;
      return [kind, source, `${flags}`, `${options.length}`, ...options];
    });
    const action = `cannot mount the root file system at "${target}"`;
    await this.#launcher.run(action, ["mount", target, ...args]);
  }

  /** See {@link Mounter.unmount}. */
  async unmount(target: string): Promise<void> {
    await this.unmountAll([target]);
  }

  /**
   * Unmounts everything mounted at some places, in the order given; the others too where one fails.
   * Succeeds where nothing is mounted or nothing is there. What is still used goes out of sight.
   */
  async unmountAll(targets: readonly string[]): Promise<void> {
    if (targets.length === 0) return;
    await this.#launcher.run(`cannot unmount "${targets[0]}"`, ["umount", ...targets]);
  }

  /**
   * Shows files and directories at other places. On failure none of them is mounted.
   *
   * @param mounts In the order in which they are made.
   * @throws {SandboxError} `NotFound` where a source or target is missing, `InvalidArgument` where
   *   one is a directory and the other a file.
   */
  async bind(mounts: readonly BindMount[]): Promise<void> {
    const [first] = mounts;
    if (first === undefined) return;
    const args = mounts.flatMap(({ source, target, readonly, recursive }) => [
      `${readonly ? "ro" : "rw"}${recursive ? ",recursive" : ""}`,
      source,
      target,
    ]);
    const action = `cannot mount "${first.source}" at "${first.target}"`;
    await this.#launcher.run(action, ["bind", ...args]);
  }

  /**
   * Makes a directory a mount of its own, in which later mounts are seen by programs that have made
   * a mount namespace of theirs since. Undone by {@link HostMounter.unmount}.
   *
   * @param target The directory.
   * @throws {SandboxError} `NotFound`, `PermissionDenied`; nothing is mounted then.
   */
  async share(target: string): Promise<void> {
    await this.#launcher.run(`cannot share the mounts below "${target}"`, ["share", target]);
  }
}

/** Options one by one, and each lower layer by itself (fsconfig(2); Linux 6.8 and later). */
function optionByOption(data: readonly string[]): string[] {
  return data.flatMap((option) => {
    const value = /^lowerdir=(.*)$/s.exec(option)?.[1];
    if (value === undefined) return [option];
    return splitLayers(value).map((layer) => `lowerdir+=${layer}`);
  });
}
