/**
 * What `quasaur doctor` finds: facts of this host, whether they are enough, and what mends those that
 * are not.
 *
 * @module
 */

/** The kinds of sandbox that are looked at. */
export const DOCTOR_KINDS = ["wasm", "vmm", "gvisor"] as const;

/** See {@link DOCTOR_KINDS}. */
export type DoctorKind = typeof DOCTOR_KINDS[number];

/** What a finding is about: the host as a whole, one kind, or containerd. */
export type Area = "host" | DoctorKind | "containerd" | "sandboxers";

/** One fact. */
export interface Finding {
  /** Its name, for programs; unique. */
  readonly id: string;
  /** What it is about. */
  readonly area: Area;
  /** Its name, for people. */
  readonly title: string;
  /**
   * `ok`; `note` where something is worse than it could be, or is of no use here; `missing` where
   * something does not work without it.
   */
  readonly state: "ok" | "note" | "missing";
  /** What was found. */
  readonly found: string;
  /** The command that mends it, as it is typed; missing where there is nothing to mend. */
  readonly mend?: string;
  /** The kinds that cannot run without it; none where it is not `missing`. */
  readonly blocks: readonly DoctorKind[];
}

/** Whether a kind can run. */
export interface Verdict {
  /** The kind. */
  readonly kind: DoctorKind;
  /** Whether it can. */
  readonly works: boolean;
  /** The titles of what it cannot run without. */
  readonly lacks: readonly string[];
}

/** Something is as it should be. */
export function ok(area: Area, id: string, title: string, found: string): Finding {
  return { area, id, title, state: "ok", found, blocks: [] };
}

/** Something could be better. */
export function note(
  area: Area,
  id: string,
  title: string,
  found: string,
  mend?: string,
): Finding {
  const base = { area, id, title, state: "note", found, blocks: [] } as const;
  return mend === undefined ? base : { ...base, mend };
}

/** Something is missing. */
export function missing(
  area: Area,
  id: string,
  title: string,
  found: string,
  mend: string,
  blocks: readonly DoctorKind[] = [],
): Finding {
  return { area, id, title, state: "missing", found, mend, blocks };
}

/** What the findings mean for each kind. */
export function verdictsOf(
  findings: readonly Finding[],
  kinds: readonly DoctorKind[],
): Verdict[] {
  return kinds.map((kind) => {
    const lacks = findings.filter(({ blocks }) => blocks.includes(kind)).map(({ title }) => title);
    return { kind, works: lacks.length === 0, lacks };
  });
}
