import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { checkForeignAnnotations } from "./annotations.ts";

const ACTION = 'cannot create container "a"';

Deno.test("annotations that ask for WebAssembly are accepted", () => {
  for (
    const annotations of [
      {},
      { "module.wasm.image/variant": "compat" },
      { "module.wasm.image/variant": "compat-smart", "run.oci.handler": "wasm" },
      { "run.oci.handler": "wasm-smart" },
      { "run.oci.handler": "wasmedge" },
      { "something.else/variant": "compat-not" },
    ]
  ) checkForeignAnnotations(annotations, ACTION);
});

Deno.test("annotations that ask for something else are refused by name and value", () => {
  for (
    const [name, value, accepted] of [
      ["run.oci.handler", "krun", '"wasm", "wasm-smart", "wasmedge"'],
      ["run.oci.handler", "", '"wasm", "wasm-smart", "wasmedge"'],
      ["module.wasm.image/variant", "oci", '"compat", "compat-smart"'],
    ] as const
  ) {
    assert.throws(() => checkForeignAnnotations({ [name]: value }, ACTION), (error: unknown) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "InvalidArgument");
      assert.equal(
        error.message,
        `${ACTION}: annotation "${name}" is ${JSON.stringify(value)}: a wasm sandbox accepts ` +
          accepted,
      );
      return true;
    });
  }
});
