/**
 * Small file trees as they are now, and what has changed between two looks at one.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** A file, directory or link of a tree. */
export type TreeNode =
  | ({
    readonly kind: "file";
    readonly size: number;
    /** Which file it is. */
    readonly inode: number;
    /** When it was changed last, its content and its owner or mode, in milliseconds. */
    readonly changedAtMs: readonly number[];
  } & TreeOwner)
  | ({ readonly kind: "directory" } & TreeOwner)
  | { readonly kind: "link"; readonly target: string };

/** Whose a file or directory is. */
export interface TreeOwner {
  /** Permission bits, those for set-user-id and the like included. */
  readonly mode: number;
  /** User. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
}

/** A tree by path relative to its top, which is `.`; parents come before what is in them. */
export type Tree = ReadonlyMap<string, TreeNode>;

/** How large a tree may be. */
export interface TreeLimits {
  /** Most bytes of its files together. */
  readonly bytesMax: number;
  /** Most files, directories and links. */
  readonly entriesMax: number;
}

/** A look at a tree. */
export type TreeScan =
  | { readonly kind: "tree"; readonly tree: Tree }
  /** It is too large, or holds what cannot be copied: why, as `it holds ...`. */
  | { readonly kind: "unfit"; readonly reason: string };

/** The link by which kubelet shows all new files of a volume at once. */
const SWITCH_LINK = "..data";

/**
 * Looks at a tree.
 *
 * @param top A directory, or a single file.
 * @param limits How large it may be.
 * @throws {SandboxError} Where it cannot be read. What goes away meanwhile is left out.
 */
export async function scanTree(top: string, limits: TreeLimits): Promise<TreeScan> {
  const tree = new Map<string, TreeNode>();
  let bytes = 0;
  const left = ["."];
  try {
    for (let path = left.shift(); path !== undefined; path = left.shift()) {
      const node = await nodeAt(path === "." ? top : `${top}/${path}`);
      if (node === undefined) continue;
      if (node === "other") return unfit(`"${path}", which is no file, directory or link`);
      tree.set(path, node);
      bytes += node.kind === "file" ? node.size : 0;
      if (bytes > limits.bytesMax) return unfit(`more than ${limits.bytesMax} bytes`);
      if (node.kind === "directory") {
        const room = limits.entriesMax - tree.size - left.length;
        const names = await namesIn(path === "." ? top : `${top}/${path}`, room);
        left.push(...names.map((name) => path === "." ? name : `${path}/${name}`));
      }
      if (tree.size + left.length > limits.entriesMax) {
        return unfit(`more than ${limits.entriesMax} files`);
      }
    }
  } catch (error) {
    throw SandboxError.from(error, `cannot read the volume "${top}"`);
  }
  return { kind: "tree", tree };
}

/** A change of one path. */
export interface TreeChange {
  /** The path. */
  readonly path: string;
  /** What is there now; undefined where nothing is. */
  readonly node: TreeNode | undefined;
}

/**
 * What has to be done to make one tree of another, in an order in which whoever looks at it meanwhile
 * sees either the old or the new files: directories and files first, then links (kubelet's `..data`
 * before those that lead through it), and what is gone last.
 *
 * @param before The tree as it was.
 * @param after The tree as it is now.
 */
export function treeChanges(before: Tree, after: Tree): readonly TreeChange[] {
  const changed = [...after].filter(([path, node]) => !isSame(before.get(path), node));
  const replaced = changed
    .filter(([path, { kind }]) => before.has(path) && before.get(path)?.kind !== kind)
    .filter(([, { kind }]) => kind === "directory");
  const gone = [...before.keys()].filter((path) => path !== "." && !after.has(path));
  const isLink = ([, { kind }]: readonly [string, TreeNode]) => kind === "link";
  const links = changed.filter(isLink).sort(([a], [b]) => rank(a) - rank(b));
  const remove = (path: string): TreeChange => ({ path, node: undefined });
  const make = ([path, node]: readonly [string, TreeNode]): TreeChange => ({ path, node });
  return [
    ...replaced.map(([path]) => remove(path)),
    ...changed.filter((entry) => !isLink(entry)).map(make),
    ...links.map(make),
    // What was in a directory that is gone, or is none any more, went with it.
    ...gone.filter((path) => after.get(parentOf(path))?.kind === "directory").map(remove),
  ];
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : path.slice(0, slash);
}

function rank(path: string): number {
  return path === SWITCH_LINK || path.endsWith(`/${SWITCH_LINK}`) ? 0 : 1;
}

function isSame(a: TreeNode | undefined, b: TreeNode): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}

function unfit(found: string): TreeScan {
  return { kind: "unfit", reason: `it holds ${found}` };
}

async function nodeAt(path: string): Promise<TreeNode | "other" | undefined> {
  const status = await orIfMissing(() => Deno.lstat(path));
  if (status === undefined) return undefined;
  if (status.isSymlink) {
    const target = await orIfMissing(() => Deno.readLink(path));
    return target === undefined ? undefined : { kind: "link", target };
  }
  const { mode, uid, gid, size, ino } = status;
  const owned = { mode: (mode ?? 0) & 0o7777, uid: uid ?? 0, gid: gid ?? 0 };
  if (status.isDirectory) return { kind: "directory", ...owned };
  if (!status.isFile) return "other";
  const changedAtMs = [status.mtime, status.ctime].map((time) => time?.getTime() ?? 0);
  return { kind: "file", ...owned, size, inode: ino ?? 0, changedAtMs };
}

/** Names in a directory, sorted; no more than some beyond a limit. */
async function namesIn(directory: string, max: number): Promise<readonly string[]> {
  const names: string[] = [];
  await orIfMissing(async () => {
    for await (const { name } of Deno.readDir(directory)) {
      names.push(name);
      if (names.length > max) return;
    }
  });
  return names.sort();
}

async function orIfMissing<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
