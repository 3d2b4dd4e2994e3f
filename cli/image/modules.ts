/**
 * The modules of an image: those that it starts, or all.
 *
 * @module
 */

import { type ImageContent, unreadable } from "../../sandboxers/images/content.ts";
import { ImageFiles } from "./files.ts";
import { type ImageManifest, readManifest } from "../../sandboxers/images/manifest.ts";

/** A module and where it was found. */
export interface FoundModule {
  /** Its path in the image, or on this machine. */
  readonly path: string;
  /** Its content. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Where programs without a slash are looked for when the image has no PATH; as the sandboxer. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Finds modules.
 *
 * @param content The image.
 * @param all Whether to find every file that is named `.wasm`, beside those that the image's
 *   entrypoint and arguments name.
 * @returns Each once.
 * @throws {SandboxError} `InvalidArgument` where there is none, or the image is damaged.
 */
export async function findModules(content: ImageContent, all: boolean): Promise<FoundModule[]> {
  const manifest = await readManifest(content);
  const files = await ImageFiles.read(content, manifest);
  const found = new Map<string, FoundModule>();
  for (const path of [...namedPaths(manifest, files), ...all ? wasmPaths(files) : []]) {
    const module = files.find(path);
    if (module !== undefined && module !== "other") found.set(module.path, module);
  }
  if (found.size > 0) return [...found.values()];
  const names = manifest.args.slice(0, 1).map((arg) => JSON.stringify(arg)).join("");
  const others = files.modulePaths().length;
  throw unreadable(
    content,
    (names === "" ? "it starts nothing by itself" : `its program ${names} is no module`) +
      (others === 0
        ? ", and no file of it is one"
        : `: it has ${others} in other files: see --all`),
  );
}

/** Paths that the entrypoint and its arguments may mean. */
function namedPaths(manifest: ImageManifest, files: ImageFiles): string[] {
  const [program = "", ...args] = manifest.args;
  const inside = (path: string) =>
    path.startsWith("/") ? path : `${manifest.workingDirectory}/${path}`;
  const searched = (manifest.env.find((entry) => entry.startsWith("PATH="))?.slice(5) ??
    DEFAULT_PATH).split(":").map((directory) => `${inside(directory)}/${program}`);
  const candidates = program.includes("/") ? [] : searched;
  const first = candidates.find((path) => files.find(path) !== undefined) ?? inside(program);
  return [
    ...program === "" ? artifactPaths(files) : [first],
    ...args.filter((arg) => arg.endsWith(".wasm")).map(inside),
  ];
}

/** An artifact says nothing of what it starts: where it has one module, it is that. */
function artifactPaths(files: ImageFiles): string[] {
  const paths = files.modulePaths();
  return paths.length === 1 ? paths : [];
}

function wasmPaths(files: ImageFiles): string[] {
  return files.modulePaths().filter((path) => path.endsWith(".wasm"));
}
