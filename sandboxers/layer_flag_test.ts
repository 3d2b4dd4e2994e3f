import assert from "node:assert/strict";
import { parseFlags } from "./flags.ts";
import { LAYER_FLAG } from "./layer_flag.ts";

/** What the flag says, in bytes. */
function bytes(...args: readonly string[]): number {
  const outcome = parseFlags("box", args, LAYER_FLAG);
  assert.ok(outcome.kind === "run");
  return outcome.own["layer-max"];
}

Deno.test("what may be written over an image is given in MiB, and has a default and bounds", () => {
  assert.equal(bytes(), 1 << 30);
  assert.equal(bytes("--layer-max=16"), 16 << 20);
  assert.equal(bytes("--layer-max=0"), 0);
  for (const wrong of ["-1", "1.5", "1G", "", "1048577"]) {
    assert.throws(() => bytes(`--layer-max=${wrong}`), {
      code: "InvalidArgument",
      message:
        `invalid --layer-max ${JSON.stringify(wrong)}: expected a whole number of MiB from ` +
        "0 to 1048576",
    });
  }
});
