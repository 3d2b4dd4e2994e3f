/**
 * What `quasaur run` is to run: the first word after the options, told apart by what is there, or
 * what --image or --rootfs says.
 *
 * @module
 */

import type { ImageOptions } from "../mod.ts";
import { findSource, isPath, type Source } from "../sandboxers/images/source.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { RunCommandOptions } from "./run_options.ts";
import { UsageError } from "./usage_error.ts";

/** What is run. */
export interface Subject {
  /** Its name, as it was given. */
  readonly name: string;
  /** What that stands for. */
  readonly source: Source;
  /** The words behind it: arguments, or a command. */
  readonly words: readonly string[];
}

/**
 * Finds out what is to be run.
 *
 * @param words All words after the options.
 * @param options Says where to look, and may name it.
 * @param kind The kind of sandbox: says what a file is taken for.
 * @throws {UsageError} Where nothing is named, or too much.
 * @throws {SandboxError} See `findSource`.
 */
export async function findSubject(
  words: readonly string[],
  options: RunCommandOptions,
  kind: string,
): Promise<Subject> {
  const { rootfs, image } = options;
  if (rootfs !== undefined && image !== undefined) {
    throw new UsageError("Expected either --rootfs DIR or --image IMAGE, found both");
  }
  // The marker that ends our own options is not the command's.
  const plain = words[0] === "--" ? words.slice(1) : words;
  if (rootfs !== undefined) {
    return { name: rootfs, source: { kind: "rootfs", path: rootfs }, words: plain };
  }
  const [what, ...rest] = image === undefined ? plain : [image, ...plain];
  if (what === undefined || what === "") {
    throw new UsageError(
      what === ""
        ? 'Invalid WHAT "": expected what to run'
        : kind === "wasm"
        ? "missing required argument 'WHAT': expected a module or an image"
        : "missing required argument 'WHAT': expected an image, or --rootfs DIR and a command",
    );
  }
  return {
    name: what,
    source: await sourceOf(what, options, kind),
    words: rest[0] === "--" ? rest.slice(1) : rest,
  };
}

async function sourceOf(
  what: string,
  options: RunCommandOptions,
  kind: string,
): Promise<Source> {
  // Whoever asks for a module hears of a missing one in the words of modules.
  if (kind === "wasm" && what.endsWith(".wasm")) return { kind: "module", path: what };
  try {
    const { containerd } = imageOptions(options);
    const source = await findSource(what, containerd === undefined ? {} : { containerd });
    const isModule = source.kind === "file" || source.kind === "disk" || source.kind === "rootfs";
    return kind === "wasm" && isModule ? { kind: "module", path: what } : source;
  } catch (error) {
    const isMissing = error instanceof SandboxError && error.code === "NotFound" && isPath(what);
    // Each kind has words of its own for what it does not find.
    if (kind === "wasm" && isMissing) return { kind: "module", path: what };
    if (kind === "vmm" && isMissing) return { kind: "disk", path: what };
    throw error;
  }
}

/** Where images come from. */
export function imageOptions({ pullFrom, namespace }: RunCommandOptions): ImageOptions {
  if (pullFrom === undefined && namespace === undefined) return {};
  return {
    containerd: {
      ...(pullFrom === undefined ? {} : { address: pullFrom }),
      ...(namespace === undefined ? {} : { namespaces: [namespace] }),
    },
  };
}
