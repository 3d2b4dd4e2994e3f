/**
 * Turns a permission set of deno.json into command-line flags, with the system's directories
 * replaced by a test's own. So a sandboxer under test has just the rights that it has in production.
 *
 * @module
 */

/** A permission as deno.json writes it. */
type Permission = boolean | readonly string[] | {
  readonly allow?: boolean | readonly string[];
  readonly deny?: boolean | readonly string[];
  readonly ignore?: boolean | readonly string[];
};

/** The repository's root directory, without a slash at its end. */
export const REPOSITORY: string = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");

/** The permissions whose values are paths; those of `run` also names, which have no slash. */
const PATH_PERMISSIONS: readonly string[] = ["read", "write", "ffi", "run"];

/**
 * The flags of a permission set.
 *
 * @param set The permission set, as parsed from deno.json.
 * @param replacements Pairs of path prefixes: what deno.json says, and what to say instead. The
 *   longest that fits is used.
 */
export function permissionFlags(
  set: Readonly<Record<string, unknown>>,
  replacements: ReadonlyMap<string, string>,
): string[] {
  const flags: string[] = [];
  for (const [name, permission] of Object.entries(set)) {
    if (!isPermission(permission)) {
      throw new TypeError(`Cannot read the permission "${name}": ${JSON.stringify(permission)}`);
    }
    const values = typeof permission === "object" && !isList(permission)
      ? permission
      : { allow: permission };
    for (const [verb, value] of Object.entries(values)) {
      if (value === false) continue;
      const list = value === true
        ? ""
        : `=${value.map((item) => replace(name, item, replacements)).join(",")}`;
      flags.push(`--${verb}-${name}${list}`);
    }
  }
  return flags;
}

/** Whether a value has the shape of a permission. */
function isPermission(value: unknown): value is Permission {
  if (typeof value === "boolean" || isList(value)) return true;
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).every(([verb, inner]) =>
    ["allow", "deny", "ignore"].includes(verb) && (typeof inner === "boolean" || isList(inner))
  );
}

/** Whether a value is a list of strings. */
function isList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** One value with its path replaced; paths that are not absolute are those of the repository. */
function replace(
  name: string,
  value: string,
  replacements: ReadonlyMap<string, string>,
): string {
  const [, scheme = "", path = ""] = /^(unix:)?(.*)$/s.exec(value) ?? [];
  if (name === "net" && scheme === "") return value;
  if (scheme === "" && !PATH_PERMISSIONS.includes(name)) return value;
  if (name === "run" && !value.includes("/")) return value;
  if (!path.startsWith("/")) {
    return `${scheme}${REPOSITORY}/${path.replace(/^\.\//, "")}`;
  }
  const prefix = [...replacements.keys()]
    .filter((candidate) => path.startsWith(candidate))
    .sort((a, b) => b.length - a.length)[0];
  if (prefix === undefined) return value;
  return `${scheme}${replacements.get(prefix)}${path.slice(prefix.length)}`;
}
