/**
 * The black-box suite: what every kind of sandbox must do when stock containerd drives it through
 * CRI. It knows nothing of how a kind works; {@link Target} says how to reach it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { bedTests, type RegisterBedTest } from "../support/bed_tests.ts";
import { fileCases } from "./file_cases.ts";
import { lifecycleCases } from "./lifecycle_cases.ts";
import { loadCases } from "./load_cases.ts";
import { networkCases } from "./network_cases.ts";
import { processCases } from "./process_cases.ts";
import { refusalCases } from "./refusal_cases.ts";
import { resourceCases } from "./resource_cases.ts";
import { securityCases } from "./security_cases.ts";
import type { KnownFailure, Target } from "./target.ts";
import { terminalCases } from "./terminal_cases.ts";

/**
 * Registers the tests for one kind of sandbox.
 *
 * @param target The kind.
 * @returns The function that registers more tests on the same bed.
 */
export function blackBoxSuite(target: Target): RegisterBedTest {
  const register = bedTests(target.bed, (bed) => target.importImages(bed));
  const { knownFailures = {} } = target;
  const unseen = new Set(Object.keys(knownFailures));
  const test: RegisterBedTest = (name, body) => {
    const failure = knownFailures[name];
    unseen.delete(name);
    const run: typeof body = (context) => {
      if (!target.abilities.hostNetwork) context.cri.network = "pod";
      return body(context);
    };
    if (failure === undefined) register(`${target.name}: ${name}`, run);
    else {
      const title = `${target.name}: ${name} (must fail: ${failure.because})`;
      register(title, (context) => mustFail(name, failure, run(context)));
    }
  };
  lifecycleCases(target, test);
  processCases(target, test);
  fileCases(target, test);
  networkCases(target, test);
  terminalCases(target, test);
  securityCases(target, test);
  resourceCases(target, test);
  refusalCases(target, test);
  loadCases(target, test);
  assert.deepEqual([...unseen], [], "known failures that are no cases");
  return test;
}

/** Expects a case to fail in the way that is known. */
async function mustFail(name: string, { says }: KnownFailure, outcome: Promise<void>) {
  const failed = await outcome.then(() => undefined, (error: unknown) => ({ error }));
  assert.ok(failed !== undefined, `"${name}" passes now: take it from the known failures`);
  const { error } = failed;
  assert.match(error instanceof Error ? error.message : String(error), says);
}
