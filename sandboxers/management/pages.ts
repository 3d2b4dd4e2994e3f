/**
 * Cuts lists of sandboxes into messages: however many there are and whatever labels they have, no
 * message outgrows what a client takes.
 *
 * @module
 */

import type { SandboxMessage } from "./messages.ts";

/** Most sandboxes of one message. */
const PAGE_SANDBOXES_MAX = 500;

/** About the most characters of one message; a client takes 16 MiB. */
const PAGE_CHARACTERS_MAX = 2 * 1024 * 1024;

/**
 * Cuts a list into pages.
 *
 * @param sandboxes What there is; taken one by one, and not before the page is asked for.
 */
export function* pagesOf(sandboxes: Iterable<SandboxMessage>): Generator<SandboxMessage[]> {
  let page: SandboxMessage[] = [];
  let characters = 0;
  for (const sandbox of sandboxes) {
    page.push(sandbox);
    characters += charactersOf(sandbox);
    if (page.length < PAGE_SANDBOXES_MAX && characters < PAGE_CHARACTERS_MAX) continue;
    yield page;
    page = [];
    characters = 0;
  }
  if (page.length > 0) yield page;
}

/** About how long a sandbox is: its texts of any length. */
function charactersOf({ labels, annotations, containers = [] }: SandboxMessage): number {
  const args = containers.flatMap((container) => [
    ...container.args ?? [],
    ...(container.execs ?? []).flatMap((exec) => exec.args ?? []),
  ]);
  return [labels ?? {}, annotations ?? {}].flatMap(Object.entries).flat().concat(args)
    .reduce((total, text) => total + String(text).length, 0);
}
