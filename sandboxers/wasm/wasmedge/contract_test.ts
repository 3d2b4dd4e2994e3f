/**
 * The WasmEdge engine against what holds for every engine.
 *
 * @module
 */

import "../fixture.ts";
import { testEngine } from "../testing/engine_contract.ts";
import { WasmEdgeEngine } from "./engine.ts";

testEngine({
  name: "wasmedge",
  open: (guestsMax) => new WasmEdgeEngine(guestsMax === undefined ? {} : { guestsMax }),
  traps: {
    unreachable: /^unreachable$/,
    divide: /^integer divide by zero$/,
    memory: /^out of bounds memory access$/,
    call: /^undefined element$/,
  },
  sockets: true,
  followsMemory: true,
  many: 50,
});
