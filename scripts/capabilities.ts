/**
 * The table of what each kind of sandbox can do, side by side, from what the drivers tell the
 * lifecycle. `deno run -A scripts/capabilities.ts` writes it into the docs; a test holds them equal.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import type { Capabilities } from "../sandboxers/lifecycle/driver.ts";
import { GVISOR_CAPABILITIES } from "../sandboxers/quark/gvisor/kernel.ts";
import { QUARK_CAPABILITIES } from "../sandboxers/quark/quark/kernel.ts";
import { VMM_CAPABILITIES } from "../sandboxers/vmm/driver.ts";
import { WASM_CAPABILITIES } from "../sandboxers/wasm/driver.ts";

/** The page that has the table. */
export const CAPABILITIES_PAGE: string = fileURLToPath(
  new URL("../docs/kinds.md", import.meta.url),
);

/** What is before and behind the table. */
const BEGIN = "<!-- capabilities: made by scripts/capabilities.ts -->";
const END = "<!-- end of capabilities -->";

/** The kinds, in the order of the table's columns. */
const KINDS: Readonly<Record<string, Capabilities>> = {
  wasm: WASM_CAPABILITIES,
  vmm: VMM_CAPABILITIES,
  gVisor: GVISOR_CAPABILITIES,
  Quark: QUARK_CAPABILITIES,
};

/** What each capability means to somebody who reads the table; all of them are there. */
const WORDS: Readonly<Record<keyof Capabilities, string>> = {
  exec: "exec: more processes in a running container",
  terminal: "processes with a terminal",
  pause: "pause and resume",
  updateContainer: "new limits for a running container",
  updateSandbox: "new limits for a running pod",
};

/** The table, in Markdown as `deno fmt` has it. */
export function capabilityTable(): string {
  const names = Object.keys(KINDS);
  const rows = Object.entries(WORDS).map(([name, words]) => [
    words,
    ...Object.values(KINDS).map((can) => new Map(Object.entries(can)).get(name) ? "yes" : "no"),
  ]);
  const all = [["", ...names], ...rows];
  const widths = ["", ...names].map((_, i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(["", ...names]), rule, ...rows.map(line)].join("\n");
}

/**
 * A page with the table as it is now.
 *
 * @param page The page.
 * @throws {Error} Where the page has no place for it.
 */
export function withCapabilities(page: string): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) {
    throw new Error(`Cannot place the table of capabilities: the page has no "${BEGIN}"`);
  }
  return `${before}${BEGIN}\n\n${capabilityTable()}\n\n${END}${after}`;
}

if (import.meta.main) {
  const page = await Deno.readTextFile(CAPABILITIES_PAGE);
  await Deno.writeTextFile(CAPABILITIES_PAGE, withCapabilities(page));
}
