import { blackBoxSuite } from "./suite.ts";
import { wasmProcessTarget } from "./wasm_target.ts";

blackBoxSuite(wasmProcessTarget);
