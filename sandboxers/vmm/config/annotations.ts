/**
 * Annotations by which a pod asks for a machine of another shape: `quasaur.dev/vcpus`,
 * `quasaur.dev/memory-in-mb`, `quasaur.dev/share-fs` and `quasaur.dev/template`. The configuration
 * says which of them count. One that is not known, not allowed or not understood is refused, so that
 * nobody believes that it was heard.
 *
 * @module
 */

import { closest } from "../../config/closest.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import { ANNOTATION_NAMES, type AnnotationName, type LimitsSection } from "./config.ts";

/** What all annotations of this project begin with. */
export const ANNOTATION_PREFIX = "quasaur.dev/";

/** Annotations of other kinds of sandbox, and the values that a machine fulfils anyway. */
const FULFILLED: Readonly<Record<string, string>> = { isolation: "process" };

/** What a pod asks for; missing where it does not. */
export interface PodWishes {
  /** CPUs. */
  readonly vcpus?: number;
  /** Memory of the whole machine, in MiB. */
  readonly memoryInMb?: number;
  /** Whether it gets a shared tree. */
  readonly shareFs?: "auto" | "virtiofs" | "none";
  /** Whether it may be the clone of a template. */
  readonly template?: boolean;
}

/**
 * Reads the annotations of a pod.
 *
 * @param pod The pod.
 * @param allowed Which annotations count.
 * @throws {SandboxError} `InvalidArgument` naming the annotation.
 */
export function wishesOf(
  { id, annotations }: Pick<SandboxSpec, "id" | "annotations">,
  { annotations: allowed }: Pick<LimitsSection, "annotations">,
): PodWishes {
  let wishes: PodWishes = {};
  for (const [annotation, value] of Object.entries(annotations)) {
    if (!annotation.startsWith(ANNOTATION_PREFIX)) continue;
    const refuse = (reason: string): SandboxError =>
      new SandboxError(
        "InvalidArgument",
        `cannot start sandbox "${id}": annotation "${annotation}" ${reason}`,
      );
    const name = annotation.slice(ANNOTATION_PREFIX.length);
    if (Object.hasOwn(FULFILLED, name)) {
      if (value === FULFILLED[name]) continue;
      throw refuse(`is ${quote(value)}: a machine of its own gives a pod "${FULFILLED[name]}"`);
    }
    const known = ANNOTATION_NAMES.find((each) => each === name);
    if (known === undefined) throw refuse(`is unknown${hint(name)}`);
    if (!allowed.includes(known)) {
      throw refuse(`is not allowed: add "${name}" to limits.annotations of the configuration`);
    }
    wishes = { ...wishes, ...READERS[known](value, refuse) };
  }
  return wishes;
}

function hint(name: string): string {
  const meant = closest(name, ANNOTATION_NAMES);
  return meant === undefined
    ? `: expected one of ${ANNOTATION_NAMES.map((each) => ANNOTATION_PREFIX + each).join(", ")}`
    : `: did you mean "${ANNOTATION_PREFIX}${meant}"?`;
}

function quote(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}

type Refuse = (reason: string) => SandboxError;

/** What each annotation means. */
const READERS: Readonly<Record<AnnotationName, (value: string, refuse: Refuse) => PodWishes>> = {
  "vcpus": (value, refuse) => ({ vcpus: count(value, refuse) }),
  "memory-in-mb": (value, refuse) => ({ memoryInMb: count(value, refuse) }),
  "share-fs"(value, refuse) {
    if (value === "auto" || value === "virtiofs" || value === "none") return { shareFs: value };
    throw refuse(`is ${quote(value)}: expected "auto", "virtiofs" or "none"`);
  },
  "template"(value, refuse) {
    if (value === "on" || value === "off") return { template: value === "on" };
    throw refuse(`is ${quote(value)}: expected "on" or "off"`);
  },
};

function count(value: string, refuse: Refuse): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw refuse(`is ${quote(value)}: expected a whole number above 0`);
}
