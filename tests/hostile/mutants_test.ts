import assert from "node:assert/strict";
import { run, tail } from "../support/command.ts";
import { REPOSITORY } from "../support/permissions.ts";
import type { MutantReport } from "./mutants.ts";

/** How many damaged modules are tried; more with `QUASAUR_LONG_TESTS=1`. */
const MODULES = Deno.env.get("QUASAUR_LONG_TESTS") === "1" ? 10_000 : 2_500;

/** How many of them compiled, which takes a moment for each. */
const COMPILED_MODULES = 100;

/** In how many processes, one after the other. */
const PROCESSES = 4;

/** How long one process may take, in milliseconds. */
const TIMEOUT_MS = 180_000;

/** Where the damage comes from; another number gives other modules. */
const SEED = 20_260_101;

/** Tries some of the modules in a process of their own. */
async function tryModules(
  from: number,
  count: number,
  ...more: string[]
): Promise<MutantReport> {
  const program = `${REPOSITORY}/tests/hostile/mutants.ts`;
  const args = [`${SEED}`, `${from}`, `${count}`, ...more];
  const { status, stdout, stderr } = await run(
    [Deno.execPath(), "run", "-A", program, ...args],
    { timeoutMs: TIMEOUT_MS, cwd: REPOSITORY, check: false },
  );
  assert.equal(status, 0, `ended with status ${status} at ${tail(stdout, 1)}\n${tail(stderr)}`);
  const report: MutantReport = JSON.parse(tail(stdout, 1));
  assert.deepEqual(report.strange, []);
  // Threads of pools come and go; hundreds would be those of guests.
  assert.ok(report.left < 20, `${report.left} descriptors and threads were left`);
  return report;
}

Deno.test(`${MODULES} damaged modules run or are refused, and nothing crashes`, async () => {
  const count = MODULES / PROCESSES;
  let [refused, ran] = [0, 0];
  for (let process = 0; process < PROCESSES; process++) {
    const report = await tryModules(process * count, count);
    refused += report.refused;
    ran += report.exited + report.trapped + report.killed;
  }
  assert.equal(refused + ran, MODULES);
  // Both kinds, or the damage is of no interest.
  assert.ok(refused > MODULES / 20 && ran > MODULES / 20, `${refused} refused, ${ran} ran`);
});

Deno.test(`${COMPILED_MODULES} damaged modules run compiled or are refused, and nothing crashes`, async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-mutants-" });
  try {
    await Deno.chmod(directory, 0o700);
    const report = await tryModules(0, COMPILED_MODULES, directory);
    assert.ok(report.compiled > COMPILED_MODULES / 20, `${report.compiled} ran compiled`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
