/**
 * Values of options and arguments that can be completed: names of what runs, kinds, signals, filters.
 *
 * @module
 */

import type { Fleet } from "../../sandboxers/client/fleet.ts";
import { ProcessState, type Sandbox } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { EVENT_FILTER_KEYS } from "../events.ts";
import { FILTER_KEYS } from "../sandbox_filter.ts";
import { isOver, shortId, stateOf } from "../show/sandboxes.ts";
import { SIGNAL_NAMES } from "../signal_names.ts";
import type { Candidate, KnownValues } from "./words.ts";

/** Shells that can be completed for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** How long sandboxers may take to say what they have, in milliseconds: somebody waits at a prompt. */
const ANSWER_MS = 2000;

/** Names that a shell takes as they are. */
const PLAIN = /^[\w.][\w./-]*$/;

/** Which sandboxes a verb is for; all for verbs that are not here. */
const VERBS: Readonly<Record<string, (sandbox: Sandbox) => boolean>> = {
  attach: ({ managed }) => managed,
  exec: (sandbox) => !isOver(sandbox),
  fork: (sandbox) => !isOver(sandbox),
  kill: (sandbox) => !isOver(sandbox),
  logs: ({ managed }) => managed,
  pause: (sandbox) => !isOver(sandbox),
  resume: ({ containers }) => containers.some(({ state }) => state === ProcessState.PAUSED),
  snapshot: (sandbox) => !isOver(sandbox),
  stop: (sandbox) => !isOver(sandbox),
};

/** Verbs whose target may be a container. */
const CONTAINER_VERBS = ["attach", "exec", "kill", "logs", "pause", "resume", "update", "wait"];

/** Options whose value is whatever somebody thinks of. */
const FREE = [
  "--cpus",
  "--detach-keys",
  "--env",
  "--interval",
  "--label",
  "--memory",
  "--name",
  "--namespace",
  "--pids",
  "--since",
  "--tail",
  "--time",
  "--timeout",
  "--user",
];

function plain(words: readonly string[]): Candidate[] {
  return words.map((word) => ({ word, about: "" }));
}

/**
 * What is known.
 *
 * @param open Finds the sandboxers.
 * @param verbs The names of all verbs, for `help`.
 */
export function knownValues(
  open: () => Promise<Fleet>,
  verbs: readonly string[],
): KnownValues {
  return {
    option: (command, option) => {
      if (FREE.includes(option)) return [];
      switch (`${command} ${option}`) {
        case "events --filter":
          return plain(EVENT_FILTER_KEYS.map((key) => `${key}=`));
        case "ps --filter":
          return plain(FILTER_KEYS.map((key) => `${key}=`));
        case "kill --signal":
          return plain(SIGNAL_NAMES);
      }
      return option === "--kind" ? plain(["wasm", "vmm", "quark"]) : undefined;
    },
    argument: async (command, argument, current) => {
      if (argument === "TARGET" || argument === "TARGETS") {
        return await targets(open, command, current);
      }
      if (argument === "SHELL") return plain(SHELLS);
      if (argument === "KIND") return plain(["wasm", "vmm", "gvisor"]);
      if (argument === "command" && command === "help") return plain(verbs);
      return undefined;
    },
  };
}

/** Names of what runs; ids where one is being typed. */
async function targets(
  open: () => Promise<Fleet>,
  command: string,
  current: string,
): Promise<Candidate[]> {
  using fleet = await open();
  const lists = await Promise.allSettled(
    fleet.clients.map((client) => client.list({}, { timeoutMs: ANSWER_MS })),
  );
  const takes = VERBS[command] ?? (() => true);
  const sandboxes = lists.flatMap((list) => list.status === "fulfilled" ? list.value : [])
    .filter(takes);
  return sandboxes.flatMap((sandbox) => {
    const about = `${sandbox.kind}, ${stateOf(sandbox)}`;
    const name = PLAIN.test(sandbox.name) ? sandbox.name : shortId(sandbox.id);
    const words = [name];
    // A pod of containerd is called NAMESPACE/POD, and either does.
    const pod = name.slice(name.lastIndexOf("/") + 1);
    if (pod !== name && !name.startsWith(current)) words.push(pod);
    if (current !== "" && sandbox.id.startsWith(current)) words.push(shortId(sandbox.id));
    if (CONTAINER_VERBS.includes(command)) {
      const several = sandbox.containers.length > 1 || current.includes("/");
      const names = sandbox.containers.map((container) => container.name).filter((n) =>
        PLAIN.test(n)
      );
      if (several) words.push(...names.map((inner) => `${name}/${inner}`));
    }
    return [...new Set(words)].map((word) => ({ word, about }));
  });
}
