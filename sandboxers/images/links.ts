/**
 * How a path leads through the links of a root file system: as for a program in it, from its root and
 * never out of it.
 *
 * @module
 */

/** Most links on the way to a file; as Linux has it. */
const LINKS_MAX = 40;

/**
 * Goes along a path. It yields each place on the way, relative to the root, and is to be told what a
 * link leads to that is there, or undefined for anything else.
 *
 * @param path The path in the root file system.
 * @returns Where it leads, relative to the root; undefined where links lead around in circles.
 */
export function* walkLinks(
  path: string,
): Generator<string, string | undefined, string | undefined> {
  const parts = (text: string) => text.split("/").filter((part) => part !== "" && part !== ".");
  const left = parts(path);
  const at: string[] = [];
  let links = 0;
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    if (part === "..") {
      at.pop();
      continue;
    }
    at.push(part);
    const target = yield at.join("/");
    if (target === undefined) continue;
    if (++links > LINKS_MAX) return undefined;
    at.pop();
    if (target.startsWith("/")) at.length = 0;
    left.unshift(...parts(target));
  }
  return at.join("/");
}
