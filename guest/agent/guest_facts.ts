/**
 * What a container's configuration has to be fitted to: devices and sizes of huge pages that this
 * guest has.
 *
 * @module
 */

import * as sys from "./sys.js";

/** The numbers of a device node of the guest; undefined where it has none at that path. */
export function deviceNumbers(path: string): { major: number; minor: number } | undefined {
  if (!path.startsWith("/dev/")) return undefined;
  const stat = sys.stat(path);
  if (typeof stat === "number") return undefined;
  return { major: stat.rdevMajor, minor: stat.rdevMinor };
}

/** Whether the kernel limits huge pages of this size, such as `2MB`. */
export function hasHugePages(size: string): boolean {
  return /^\d+[KMG]B$/.test(size) &&
    sys.access(`/sys/fs/cgroup/containers/hugetlb.${size}.max`, 0) >= 0;
}
