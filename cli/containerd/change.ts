/**
 * Changes containerd's configuration on disk: reads it, merges, has containerd check the result,
 * keeps a copy of what was there, writes, and can take all of it back.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { checkWithContainerd } from "./check.ts";
import { type Edit, revertExactly, revertWhereFound } from "./edits.ts";
import { cannotWrite, type Rights, sha256, writeAtomically } from "./files.ts";
import { readImports } from "./imports.ts";
import { type Journal, journalPath, readJournal, type Step } from "./journal.ts";
import { compare, configVersion, type Difference, merge, type Merged } from "./merge.ts";
import { findPlaces } from "./places.ts";
import { type ConfigVersion, type Section, sectionsFor, type Wanted } from "./sections.ts";

/** Where containerd's configuration is, unless it is told otherwise. */
export const DEFAULT_CONTAINERD_CONFIG = "/etc/containerd/config.toml";

/** A configuration as it is. */
export interface Found {
  /** Its path; where the path that was given is a link, of what it leads to. */
  readonly path: string;
  /** Its text; that of an empty configuration where there is no file. */
  readonly text: string;
  /** Its version. */
  readonly version: ConfigVersion;
  /** Whether there is a file. */
  readonly exists: boolean;
  /** Who may do what with it. */
  readonly rights: Rights;
}

/** What would become of it. */
export interface Planned extends Merged {
  /** What is there. */
  readonly found: Found;
  /** Sections that a file has that is imported; nothing is to be done about them. */
  readonly imported: readonly { readonly section: Section; readonly path: string }[];
  /** Differences in files that are imported: they are not changed from here. */
  readonly foreign: readonly Difference[];
  /** What a person should know, a line each. */
  readonly warnings: readonly string[];
}

/** A file that is made from nothing. */
const EMPTY_TEXT = "version = 3\n";

/** Names by which containerd's CRI plugin can be switched off. */
const CRI_PLUGINS = [
  "cri",
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.runtime",
  "io.containerd.cri.v1.images",
];

/** Largest file that is read, in bytes: no configuration comes near it. */
const FILE_BYTES_MAX = 1 << 20;

/** Most copies that are kept beside a file. */
const BACKUPS_MAX = 100;

/**
 * Reads a configuration.
 *
 * @param file Its path, absolute.
 * @throws {SandboxError} Where it cannot be read or its version is not understood.
 */
export async function readConfiguration(file: string): Promise<Found> {
  try {
    const path = await Deno.realPath(file);
    const { isFile, size, mode, uid, gid } = await Deno.stat(path);
    if (!isFile || size > FILE_BYTES_MAX) {
      throw new SandboxError(
        "InvalidArgument",
        `cannot read ${file}: expected a regular file of at most ${FILE_BYTES_MAX} bytes`,
      );
    }
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(await Deno.readFile(path));
    const rights = { mode: mode ?? 0o644, ...(uid === null ? {} : { uid, gid: gid ?? 0 }) };
    // An empty file is as good as none.
    const isEmpty = /^\s*$/.test(text);
    const version = isEmpty ? 3 : configVersion(text, path);
    return { path, text, version, exists: true, rights };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return { path: file, text: "", version: 3, exists: false, rights: { mode: 0o644 } };
    }
    throw SandboxError.from(error, `cannot read ${file}`);
  }
}

/**
 * Finds out what has to be done, and does nothing.
 *
 * @param file The configuration's path, absolute.
 * @param wanted What it has to have.
 * @param force Whether values that differ are to be replaced.
 * @throws {SandboxError} Where it cannot be read or understood.
 */
export async function plan(file: string, wanted: Wanted, force: boolean): Promise<Planned> {
  const found = await readConfiguration(file);
  const imports = await readImports(found.path, found.text);
  const imported: { section: Section; path: string }[] = [];
  const foreign: Difference[] = [];
  const own = sectionsFor(found.version, wanted).filter((section) => {
    for (const { path, text } of imports) {
      const differences = compare(text, section, path);
      if (differences === undefined) continue;
      if (differences.length > 0) foreign.push(...differences);
      else imported.push({ section, path });
      return false;
    }
    return true;
  });
  const isEmpty = /^\s*$/.test(found.text);
  const start: Edit[] = isEmpty
    ? [{ path: ["version"], offset: found.text.length, removed: "", inserted: EMPTY_TEXT }]
    : [];
  const merged = merge(isEmpty ? found.text + EMPTY_TEXT : found.text, own, {
    name: found.path,
    force,
  });
  return {
    ...merged,
    edits: merged.edits.length === 0 ? [] : [...start, ...merged.edits],
    text: merged.edits.length === 0 ? found.text : merged.text,
    found,
    imported,
    foreign,
    warnings: warnings(found),
  };
}

function warnings({ path, text }: Found): string[] {
  const leaf = findPlaces(text, path).leaves.find((it) => it.path.join() === "disabled_plugins");
  const list = leaf === undefined ? "" : text.slice(...leaf.range);
  const off = CRI_PLUGINS.filter((name) =>
    list.includes(`"${name}"`) || list.includes(`'${name}'`)
  );
  return off.map((name) =>
    `${path}:${leaf?.line}: containerd's CRI is switched off ("${name}" in disabled_plugins): ` +
    "Kubernetes and crictl cannot use it, and so no runtime handler, until it is switched on"
  );
}

/**
 * Has containerd read what would become of a configuration.
 *
 * @param planned What would become of it.
 * @param wanted What it has to have.
 * @param containerd The program.
 * @throws {SandboxError} Where containerd does not take it.
 */
export async function checkPlanned(
  planned: Planned,
  wanted: Wanted,
  containerd: string,
): Promise<void> {
  const { path, exists } = planned.found;
  // Beside the file, so that imports lead where they will lead.
  const directory = exists ? path.slice(0, path.lastIndexOf("/")) : await Deno.makeTempDir();
  const file = `${directory}/quasaur-check.${Deno.pid}.quasaur-new`;
  try {
    await Deno.writeTextFile(file, planned.text, { mode: 0o600, createNew: true }).catch(
      (error: unknown) => {
        throw cannotWrite(file, error);
      },
    );
    await checkWithContainerd(containerd, file, wanted);
  } finally {
    await Deno.remove(file).catch(() => undefined);
    if (!exists) await Deno.remove(directory).catch(() => undefined);
  }
}

/**
 * Puts what was planned in place.
 *
 * @param planned What becomes of it.
 * @returns The copy of what was there; undefined where there was no file.
 * @throws {SandboxError} Where it cannot be written; then nothing has changed.
 */
export async function applyPlanned(planned: Planned): Promise<string | undefined> {
  const { found, text, edits } = planned;
  const journal = await readJournal(found.path);
  const directories = await makeDirectories(found.path);
  const backup = found.exists ? await keepCopy(found) : undefined;
  const step: Step = {
    before: await sha256(found.text),
    after: await sha256(text),
    edits,
    ...(backup === undefined ? {} : { backup }),
  };
  const made = journal?.made ?? !found.exists;
  await writeJournal(found.path, {
    format: 1,
    made,
    directories: journal?.directories ?? directories,
    steps: [...journal?.steps ?? [], step],
  });
  await writeAtomically(found.path, text, found.rights);
  return backup;
}

async function writeJournal(file: string, journal: Journal): Promise<void> {
  const text = `${JSON.stringify(journal, null, 2)}\n`;
  await writeAtomically(journalPath(file), text, { mode: 0o600 });
}

/** Makes the directory of a file; answers what was made, the uppermost first. */
async function makeDirectories(file: string): Promise<string[]> {
  const made: string[] = [];
  const parts = file.split("/").slice(1, -1);
  for (let i = 1; i <= parts.length; i++) {
    const path = `/${parts.slice(0, i).join("/")}`;
    try {
      await Deno.mkdir(path);
      made.push(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw cannotWrite(path, error);
    }
  }
  return made;
}

/** Keeps a copy beside the file, under a name that is free or has the same content. */
async function keepCopy({ path, text, rights }: Found): Promise<string> {
  for (let i = 0; i < BACKUPS_MAX; i++) {
    const backup = `${path}.before-quasaur${i === 0 ? "" : `.${i}`}`;
    const there = await Deno.readTextFile(backup).catch(() => undefined);
    if (there === text) return backup;
    if (there !== undefined) continue;
    await writeAtomically(backup, text, rights);
    return backup;
  }
  throw new SandboxError(
    "ResourceExhausted",
    `cannot keep a copy of ${path}: there are ${BACKUPS_MAX} of them: delete those that are old`,
  );
}

/** What taking it back comes to. */
export interface Undone {
  /** The configuration's path. */
  readonly path: string;
  /** Its text as it is. */
  readonly before: string;
  /** Its text as it will be; undefined where the file goes. */
  readonly after: string | undefined;
  /** Changes that stay, because others have changed that part since. */
  readonly kept: readonly Edit[];
  /** What is deleted beside it. */
  readonly remove: readonly string[];
}

/**
 * Finds out what taking all of it back comes to, and does nothing.
 *
 * @param file The configuration's path.
 * @returns undefined where nothing was added, as far as is known.
 * @throws {SandboxError} Where the record of what was added cannot be read.
 */
export async function planUndo(file: string): Promise<Undone | undefined> {
  const path = await Deno.realPath(file).catch(() => file);
  const journal = await readJournal(path);
  if (journal === undefined) return undefined;
  const before = await Deno.readTextFile(path).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw SandboxError.from(error, `cannot read ${path}`);
  });
  const backups = journal.steps.flatMap(({ backup }) => backup ?? []);
  const remove = [journalPath(path), ...new Set(backups), ...journal.directories.toReversed()];
  // Somebody deleted the file, and with it what was added.
  if (before === undefined) {
    return { path, before: "", after: undefined, kept: [], remove };
  }
  let after = before;
  let isExact = true;
  const kept: Edit[] = [];
  for (const step of journal.steps.toReversed()) {
    const hash = await sha256(after);
    // It was about to be made when the machine stopped.
    if (hash === step.before && hash !== step.after) continue;
    isExact &&= hash === step.after;
    if (isExact) {
      after = revertExactly(after, step.edits);
      continue;
    }
    const reverted = revertWhereFound(after, step.edits);
    after = reverted.text;
    kept.unshift(...reverted.kept);
  }
  findPlaces(after, `${path} without what was added`);
  const goes = journal.made && /^\s*$/.test(after);
  // Where others have written too, copies of old texts may be of use to them.
  return {
    path,
    before,
    after: goes ? undefined : after,
    kept,
    remove: isExact || goes ? remove : [journalPath(path)],
  };
}

/**
 * Takes it back.
 *
 * @param undone What that comes to.
 * @throws {SandboxError} Where a file cannot be written or deleted.
 */
export async function applyUndo(undone: Undone): Promise<void> {
  const { path, before, after, remove } = undone;
  if (after === undefined) await removeIfThere(path);
  else if (after !== before) {
    const { rights } = await rightsOf(path);
    await writeAtomically(path, after, rights);
  }
  for (const each of remove) await removeIfThere(each);
}

async function rightsOf(path: string): Promise<{ rights: Rights }> {
  const { mode, uid, gid } = await Deno.stat(path);
  return { rights: { mode: mode ?? 0o644, ...(uid === null ? {} : { uid, gid: gid ?? 0 }) } };
}

/** Deletes a file, or a directory where it is empty. */
async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    const isGone = error instanceof Deno.errors.NotFound;
    const isFull = error instanceof Error && /not empty/i.test(error.message);
    if (!isGone && !isFull) throw cannotWrite(path, error);
  }
}
