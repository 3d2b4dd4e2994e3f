/**
 * Who `USER[:GROUP]` is in a root file system: names are looked up in its passwd(5) and group(5).
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { readTextInside } from "./rootfs_files.ts";

/** A user, by number. */
export interface ImageUser {
  /** User id. */
  readonly uid: number;
  /** Group id. */
  readonly gid: number;
  /** Further groups. */
  readonly additionalGids: readonly number[];
  /** The home directory; empty where none is known. */
  readonly home: string;
}

/** Largest number of a user or group. */
const ID_MAX = 2 ** 32 - 2;
/** Most further groups of a user. */
const GROUPS_MAX = 1_024;

/** How a user is written, for messages. */
export const USER_SYNTAX = "USER or USER:GROUP, each a name or a number";

/**
 * Whether a text can name a user at all.
 *
 * @param text Such as `www-data:1000`.
 */
export function isUser(text: string): boolean {
  return /^[^:\s\0]+(:[^:\s\0]+)?$/.test(text);
}

/**
 * Looks a user up.
 *
 * @param rootfs The root file system.
 * @param text `USER[:GROUP]`, names or numbers; empty for root.
 * @throws {SandboxError} `InvalidArgument` for a name that is not there.
 */
export async function findUser(rootfs: string, text: string): Promise<ImageUser> {
  const [user = "", group = ""] = text.split(":");
  const [passwd, groups] = await Promise.all([
    entries(rootfs, "/etc/passwd"),
    entries(rootfs, "/etc/group"),
  ]);
  const wanted = user === "" ? "0" : user;
  const number = idOf(wanted);
  const entry = passwd.find(([name]) => name === wanted) ??
    passwd.find(([, , id]) => number !== undefined && idOf(id) === number);
  const uid = entry === undefined ? number : idOf(entry[2]);
  if (uid === undefined) throw unknown("user", wanted, rootfs);
  const name = entry?.[0];
  const gid = group === "" ? idOf(entry?.[3]) ?? 0 : groupOf(group, groups);
  if (gid === undefined) throw unknown("group", group, rootfs);
  // As container tools have it: whoever names a group has that one alone.
  const members = group !== "" || name === undefined
    ? []
    : groups.filter(([, , , list = ""]) => list.split(",").includes(name));
  const further = members.map(([, , id]) => idOf(id)).filter((id) => id !== undefined);
  return {
    uid,
    gid,
    additionalGids: [...new Set(further)].filter((id) => id !== gid).slice(0, GROUPS_MAX),
    home: entry?.[5] ?? "",
  };
}

function groupOf(group: string, groups: readonly string[][]): number | undefined {
  const entry = groups.find(([name]) => name === group);
  return entry === undefined ? idOf(group) : idOf(entry[2]);
}

async function entries(rootfs: string, path: string): Promise<string[][]> {
  const text = await readTextInside(rootfs, path);
  return text.split("\n").map((line) => line.trim().split(":")).filter(([name]) => name !== "");
}

function idOf(text = ""): number | undefined {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  return id <= ID_MAX ? id : undefined;
}

function unknown(what: string, name: string, rootfs: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `cannot find ${what} "${name}" in the root file system "${rootfs}": expected a name that its ` +
      `/etc/${what === "user" ? "passwd" : "group"} has, or a number up to ${ID_MAX}`,
  );
}
