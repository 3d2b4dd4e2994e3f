/**
 * The suite once more with each wasm pod in a process of its own, with `QUASAUR_LONG_TESTS=1`. What
 * differs from threads is always tried: see `tests/isolation_test.ts`.
 *
 * @module
 */

import { blackBoxSuite } from "./suite.ts";
import { wasmProcessTarget } from "./wasm_target.ts";

if (Deno.env.get("QUASAUR_LONG_TESTS") === "1") blackBoxSuite(wasmProcessTarget);
