/**
 * Where a pod's cgroup is. Kubelet says it in one of two ways, by its cgroup driver; drivers want
 * one.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** The longest cgroup path taken, in characters (PATH_MAX). */
const LENGTH_MAX = 4096;

/**
 * The path below each hierarchy's root that CRI's `cgroup_parent` means.
 *
 * With the cgroupfs driver it is that path. With the systemd driver it is the name of a slice, and
 * the dashes in the name are levels of the tree: `a-b.slice` is `/a.slice/a-b.slice`
 * (systemd.slice(5)).
 *
 * @param parent From the pod's config; empty for none.
 * @returns An absolute path, or "" for none.
 * @throws SandboxError `InvalidArgument`
 */
export function cgroupPath(parent: string): string {
  if (parent === "") return "";
  const parts = parent.split("/").filter((part) => part !== "");
  const strange = parts.some((part) => part === "." || part === "..") || parent.includes("\0");
  if (strange || parts.length === 0 || parent.length > LENGTH_MAX) throw invalid(parent);
  const [only] = parts;
  if (only !== undefined && parts.length === 1 && only.endsWith(".slice")) return slicePath(only);
  return `/${parts.join("/")}`;
}

function slicePath(slice: string): string {
  const words = slice.slice(0, -".slice".length).split("-");
  if (words.some((word) => word === "")) throw invalid(slice);
  return words.map((_, level) => `/${words.slice(0, level + 1).join("-")}.slice`).join("");
}

function invalid(parent: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `invalid options.linux.cgroup_parent ${
      JSON.stringify(parent.slice(0, 200))
    }: expected a path ` +
      `such as "/kubepods/pod1" or a slice such as "kubepods-pod1.slice"`,
  );
}
