/**
 * What people call a sandbox or a container by: an id, a name, or a unique prefix of an id. The same
 * rules hold in a sandboxer, for its own, and in a client, over several sandboxers.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** The label in which Kubernetes puts a pod's name. */
export const POD_NAME_LABEL = "io.kubernetes.pod.name";

/** A container that can be meant. */
export interface TargetContainer {
  /** Its id. */
  readonly id: string;
  /** Its name; empty for none. */
  readonly name: string;
}

/** A sandbox that can be meant. */
export interface TargetSandbox {
  /** Its id. */
  readonly id: string;
  /** Its name; empty for none. */
  readonly name: string;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Its containers. */
  readonly containers: readonly TargetContainer[];
}

/** What is meant: a sandbox, or one of its containers. */
export interface Found<S extends TargetSandbox> {
  /** The sandbox, or the one that the container is in. */
  readonly sandbox: S;
  /** Set where a container is meant. */
  readonly container?: S["containers"][number];
}

/** Most candidates that an error names. */
const CANDIDATES_MAX = 5;

/** Longest target that is looked for, in characters. */
const TARGET_LENGTH_MAX = 512;

/**
 * Finds what is meant. An id counts before a name, a name of a sandbox before one of a container, a
 * name before a prefix of an id; `SANDBOX/CONTAINER` names a container within a sandbox.
 *
 * @param sandboxes All that there are.
 * @param target What was asked for.
 * @throws {SandboxError} `InvalidArgument` for an empty target or one that fits several, `NotFound`
 *   for one that fits none; both name candidates.
 */
export function findTarget<S extends TargetSandbox>(
  sandboxes: Iterable<S>,
  target: string,
): Found<S> {
  if (target === "" || target.length > TARGET_LENGTH_MAX) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot find a sandbox by ${
        target === "" ? "an empty name" : `a name of ${target.length} characters`
      }: expected the id or the name of a sandbox or container, or the beginning of an id`,
    );
  }
  const all = [...sandboxes];
  const found = search(all, target);
  if (found.length === 1 && found[0] !== undefined) return found[0];
  throw found.length === 0 ? notFound(all, target) : ambiguous(found, target);
}

/** All that a target fits, by the first rule by which it fits any. */
function search<S extends TargetSandbox>(all: readonly S[], target: string): Found<S>[] {
  const rules: ((sandbox: S) => Found<S>[])[] = [
    (sandbox) => sandbox.id === target ? [{ sandbox }] : [],
    (sandbox) => containers(sandbox, ({ id }) => id === target),
    (sandbox) => isNamed(sandbox, target) ? [{ sandbox }] : [],
    (sandbox) => containers(sandbox, ({ name }) => name === target),
    (sandbox) => within(sandbox, target),
    (sandbox) => byPrefix(sandbox, target),
  ];
  for (const rule of rules) {
    const found = all.flatMap(rule);
    if (found.length > 0) return found;
  }
  return [];
}

function isNamed(sandbox: TargetSandbox, name: string): boolean {
  // A pod of containerd is called NAMESPACE/POD.
  return sandbox.name === name || sandbox.labels[POD_NAME_LABEL] === name ||
    sandbox.name.endsWith(`/${name}`);
}

function containers<S extends TargetSandbox>(
  sandbox: S,
  fits: (container: TargetContainer) => boolean,
): Found<S>[] {
  return sandbox.containers.filter(fits).map((container) => ({ sandbox, container }));
}

/** `SANDBOX/CONTAINER`. No name of a container has a slash. */
function within<S extends TargetSandbox>(sandbox: S, target: string): Found<S>[] {
  const slash = target.lastIndexOf("/");
  if (slash <= 0) return [];
  const outer = target.slice(0, slash);
  const inner = target.slice(slash + 1);
  if (inner === "" || !(isNamed(sandbox, outer) || sandbox.id.startsWith(outer))) return [];
  const exact = containers(sandbox, ({ id, name }) => id === inner || name === inner);
  return exact.length > 0 ? exact : containers(sandbox, ({ id }) => id.startsWith(inner));
}

/** A sandbox whose containers begin as it does is what is meant, not they. */
function byPrefix<S extends TargetSandbox>(sandbox: S, prefix: string): Found<S>[] {
  if (sandbox.id.startsWith(prefix)) return [{ sandbox }];
  return containers(sandbox, ({ id }) => id.startsWith(prefix));
}

function notFound(all: readonly TargetSandbox[], target: string): SandboxError {
  const lower = target.toLowerCase();
  const similar = all.filter(({ id, name }) =>
    name.toLowerCase().includes(lower) || (name !== "" && lower.includes(name.toLowerCase())) ||
    id.startsWith(lower.slice(0, 4))
  );
  const shown = (similar.length > 0 ? similar : all).map((sandbox) => labelOf({ sandbox }));
  const there = all.length === 0
    ? "there are no sandboxes"
    : `${similar.length > 0 ? "similar ones are" : "there are"} ${listed(shown)}`;
  return new SandboxError(
    "NotFound",
    `no sandbox or container ${JSON.stringify(target)} found: ${there}`,
  );
}

function ambiguous(found: readonly Found<TargetSandbox>[], target: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `${JSON.stringify(target)} fits ${found.length} sandboxes or containers: ${
      listed(found.map(labelOf))
    }: say more of the id, or SANDBOX/CONTAINER`,
  );
}

/** What is meant, for people. */
function labelOf({ sandbox, container }: Found<TargetSandbox>): string {
  const pod = sandbox.name === "" ? `"${sandbox.id}"` : `"${sandbox.name}" (${sandbox.id})`;
  if (container === undefined) return `sandbox ${pod}`;
  const { id, name } = container;
  return `container ${name === "" ? `"${id}"` : `"${name}" (${id})`} of sandbox ${pod}`;
}

function listed(labels: readonly string[]): string {
  const shown = labels.slice(0, CANDIDATES_MAX).join(", ");
  const more = labels.length - CANDIDATES_MAX;
  return more > 0 ? `${shown} and ${more} more` : shown;
}

/**
 * The container that a target means where a sandbox will not do.
 *
 * @param action What is to be done, for messages, such as `cannot kill`.
 * @throws {SandboxError} `FailedPrecondition` where the sandbox has none or several.
 */
export function containerOf<S extends TargetSandbox>(
  { sandbox, container }: Found<S>,
  action: string,
): S["containers"][number] {
  if (container !== undefined) return container;
  const [only, another] = sandbox.containers;
  if (only !== undefined && another === undefined) return only;
  const labels = sandbox.containers.map((each) => each.name === "" ? each.id : each.name);
  throw new SandboxError(
    "FailedPrecondition",
    `${action} ${labelOf({ sandbox })}: it has ${
      only === undefined
        ? "no container"
        : `${labels.length} containers: say which of ${
          listed(labels.map((label) => `"${sandbox.name || sandbox.id}/${label}"`))
        }`
    }`,
  );
}
