/**
 * Whether the suite itself is right: what it expects is what runc does. Runs with
 * `QUASAUR_LONG_TESTS=1`.
 *
 * @module
 */

import { runcTarget } from "./runc_target.ts";
import { blackBoxSuite } from "./suite.ts";

if (Deno.env.get("QUASAUR_LONG_TESTS") === "1") blackBoxSuite(runcTarget);
