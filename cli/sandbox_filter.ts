/**
 * Filters of sandboxes, as `quasaur ps --filter` takes them.
 *
 * @module
 */

import type { Sandbox } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { processStateOf, STATE_NAMES, stateOf } from "./show/sandboxes.ts";
import { UsageError } from "./usage_error.ts";

/** What a filter looks at. */
const KEYS = ["id", "name", "kind", "state", "namespace", "image", "label", "container"] as const;

/** See {@link KEYS}. */
export type FilterKey = typeof KEYS[number];

/** What is said of filters in help. */
export const FILTER_SYNTAX: string =
  `only those that fit, by ${KEYS.join(", ")}; of the same key one is ` +
  "enough, of different keys all; may be repeated";

/** The names of the keys, for completion. */
export const FILTER_KEYS: readonly string[] = KEYS;

/** Kinds that can be asked for: those of sandboxers, and the other kernel that the one of quark has. */
const ASKED_KINDS = ["wasm", "vmm", "quark", "gvisor"] as const;

/**
 * Reads a kind that sandboxes are asked for by.
 *
 * @param text What was written.
 * @param option The option, for the message.
 * @param whole All that was written, for the message.
 * @throws {UsageError} Where there is no such kind.
 */
export function parseAskedKind(text: string, option = "--kind", whole = text): string {
  if (ASKED_KINDS.some((kind) => kind === text)) return text;
  throw new UsageError(
    `Invalid ${option} ${JSON.stringify(whole)}: expected one of ${ASKED_KINDS.join(", ")}`,
  );
}

/** Whether a sandbox is of a kind; `gvisor` are those of the sandboxer quark that run on gVisor. */
export function isOfKind({ kind, runtime }: Sandbox, asked: string): boolean {
  return kind === asked || (asked === "gvisor" && kind === "quark" && /gvisor/.test(runtime));
}

/** One key with the values that fit. */
export interface Filter {
  /** The key. */
  readonly key: FilterKey;
  /** Whether a sandbox fits. */
  takes(sandbox: Sandbox): boolean;
}

/** Whether a value fits a sandbox, by key. */
const FITS: Readonly<Record<FilterKey, (sandbox: Sandbox, value: string) => boolean>> = {
  id: ({ id }, value) => id.startsWith(value),
  name: ({ name }, value) => name.includes(value),
  kind: isOfKind,
  state: (sandbox, value) =>
    stateOf(sandbox) === value ||
    sandbox.containers.some((container) => processStateOf(container) === value),
  namespace: ({ namespace }, value) => namespace === value,
  image: ({ containers }, value) => containers.some(({ image }) => image.includes(value)),
  label: ({ labels }, value) => {
    const at = value.indexOf("=");
    if (at < 0) return Object.hasOwn(labels, value);
    const name = value.slice(0, at);
    return Object.hasOwn(labels, name) && labels[name] === value.slice(at + 1);
  },
  container: ({ containers }, value) =>
    containers.some(({ id, name }) => id.startsWith(value) || name === value),
};

/** States that a filter can ask for: of sandboxes, and of what is in them. */
const STATES = [...STATE_NAMES, "running", "paused", "exited"];

/**
 * Reads filters.
 *
 * @param texts Each `KEY=VALUE`.
 * @throws {UsageError} Where one is none.
 */
export function filtersOf(texts: readonly string[]): Filter[] {
  const values = new Map<FilterKey, string[]>();
  for (const text of texts) {
    const at = text.indexOf("=");
    const key = KEYS.find((key) => key === text.slice(0, at));
    const value = text.slice(at + 1);
    if (at < 0 || key === undefined || value === "") {
      throw new UsageError(
        `Invalid --filter ${JSON.stringify(text)}: expected KEY=VALUE with one of ${
          KEYS.join(", ")
        }`,
      );
    }
    if (key === "state" && !STATES.includes(value)) {
      throw new UsageError(
        `Invalid --filter ${JSON.stringify(text)}: expected one of ${STATES.join(", ")}`,
      );
    }
    if (key === "kind") parseAskedKind(value, "--filter", text);
    values.set(key, [...values.get(key) ?? [], value]);
  }
  return [...values].map(([key, some]) => ({
    key,
    takes: (sandbox) => some.some((value) => FITS[key](sandbox, value)),
  }));
}
