/**
 * The black-box suite: what every kind of sandbox must do when stock containerd drives it through
 * CRI. It knows nothing of how a kind works; {@link Target} says how to reach it.
 *
 * @module
 */

import { bedTests, type RegisterBedTest } from "../support/bed_tests.ts";
import { fileCases } from "./file_cases.ts";
import { lifecycleCases } from "./lifecycle_cases.ts";
import { loadCases } from "./load_cases.ts";
import { networkCases } from "./network_cases.ts";
import { processCases } from "./process_cases.ts";
import { refusalCases } from "./refusal_cases.ts";
import { resourceCases } from "./resource_cases.ts";
import { securityCases } from "./security_cases.ts";
import type { Target } from "./target.ts";
import { terminalCases } from "./terminal_cases.ts";

/**
 * Registers the tests for one kind of sandbox.
 *
 * @param target The kind.
 * @returns The function that registers more tests on the same bed.
 */
export function blackBoxSuite(target: Target): RegisterBedTest {
  const register = bedTests(target.bed, (bed) => target.importImages(bed));
  const test: RegisterBedTest = (name, body) =>
    register(`${target.name}: ${name}`, (context) => {
      if (!target.abilities.hostNetwork) context.cri.network = "pod";
      return body(context);
    });
  lifecycleCases(target, test);
  processCases(target, test);
  fileCases(target, test);
  networkCases(target, test);
  terminalCases(target, test);
  securityCases(target, test);
  resourceCases(target, test);
  refusalCases(target, test);
  loadCases(target, test);
  return test;
}
