/**
 * Paths of a root file system that a container shall not see (`maskedPaths`) or not write to
 * (`readonlyPaths`). runsc takes no notice of either, so they become mounts. Those below /proc, /sys
 * and /dev are left alone: what is there is the sentry's own and shows nothing of the host.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type JsonObject, objectOf, objectsOf, stringOf, stringsOf } from "../../oci/json.ts";

/** What is there is the sentry's own. */
const OWN = ["/proc", "/sys", "/dev"];

/** Where {@link hiddenPaths} finds things. */
export interface HiddenPlaces {
  /** The root file system on the host. */
  readonly rootfs: string;
  /** Where an empty file is made, an absolute path; only where one is needed. */
  readonly empty: string;
}

/**
 * The mounts that hide and protect what a container's configuration says. As with runc, a path that is
 * not there is nothing; those in volumes are left alone, too.
 *
 * @param config The config.json.
 * @param places See {@link HiddenPlaces}.
 * @returns Mounts to make after all others.
 * @throws {SandboxError} `FailedPrecondition` for a path that leads over a symbolic link, which nobody
 *   could follow safely.
 */
export async function hiddenPaths(
  config: JsonObject,
  { rootfs, empty }: HiddenPlaces,
): Promise<readonly JsonObject[]> {
  const linux = objectOf(config, "linux");
  const volumes = objectsOf(config, "mounts").map((mount) => stringOf(mount, "destination"));
  const isOurs = (path: string) =>
    path !== "/" && ![...OWN, ...volumes].some((top) => isIn(path, top));
  const mounts: JsonObject[] = [];
  for (const path of stringsOf(linux, "maskedPaths").map(normal).filter(isOurs)) {
    const found = await kindOf(rootfs, path);
    if (found === "missing") continue;
    mounts.push(
      found === "directory"
        ? { destination: path, type: "tmpfs", options: ["ro"] }
        : { destination: path, type: "bind", source: empty, options: ["rbind", "ro"] },
    );
  }
  if (mounts.some(({ type }) => type === "bind")) await makeEmpty(empty);
  const masked = mounts.map((mount) => stringOf(mount, "destination"));
  for (const path of stringsOf(linux, "readonlyPaths").map(normal).filter(isOurs)) {
    if (masked.some((top) => isIn(path, top))) continue;
    if (await kindOf(rootfs, path) === "missing") continue;
    const source = `${rootfs}${path}`;
    mounts.unshift({ destination: path, type: "bind", source, options: ["rbind", "ro"] });
  }
  return mounts;
}

/** Without anything that leads back, and without a slash at its end. */
function normal(path: string): string {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (path.startsWith("/") && !names.includes("..")) return `/${names.join("/")}`;
  throw new SandboxError(
    "FailedPrecondition",
    `"${path}" cannot be hidden or protected: expected an absolute path without ".."`,
  );
}

function isIn(path: string, top: string): boolean {
  const plain = top.replace(/(?<=.)\/+$/, "");
  return path === plain || path.startsWith(`${plain}/`);
}

/** What is at a path of a root file system. */
async function kindOf(rootfs: string, path: string): Promise<"missing" | "directory" | "file"> {
  let at = rootfs;
  let kind: "directory" | "file" = "directory";
  for (const name of path.slice(1).split("/")) {
    at = `${at}/${name}`;
    try {
      const { isSymlink, isDirectory } = await Deno.lstat(at);
      if (isSymlink) {
        throw new SandboxError(
          "FailedPrecondition",
          `"${path}" cannot be hidden or protected: "${
            at.slice(rootfs.length)
          }" is a symbolic link: ` +
            "give the path that it leads to",
        );
      }
      kind = isDirectory ? "directory" : "file";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "missing";
      if (error instanceof Deno.errors.NotADirectory) return "missing";
      throw SandboxError.from(error, `cannot look at "${path}"`);
    }
  }
  return kind;
}

async function makeEmpty(path: string): Promise<void> {
  try {
    await Deno.writeTextFile(path, "", { mode: 0o444 });
  } catch (error) {
    throw SandboxError.from(error, `cannot write "${path}"`);
  }
}
