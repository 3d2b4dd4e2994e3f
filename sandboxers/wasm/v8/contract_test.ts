/**
 * The V8 engine against what holds for every engine.
 *
 * @module
 */

import { testEngine } from "../testing/engine_contract.ts";
import { V8Engine } from "./engine.ts";

testEngine({
  name: "v8",
  open: (guestsMax) => new V8Engine(guestsMax === undefined ? {} : { guestsMax }),
  traps: {
    unreachable: /^unreachable$/,
    divide: /divide by zero/,
    memory: /memory access out of bounds/,
    call: /table index is out of bounds/,
  },
  sockets: false,
  followsMemory: false,
  many: 10,
});
