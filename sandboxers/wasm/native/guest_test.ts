/**
 * Builds and runs the C tests of the guest library, plain and under the sanitizers.
 *
 * @module
 */

import assert from "node:assert/strict";
import { buildNativeTest } from "./build.ts";

const TESTS = 46;

for (const sanitize of [false, true]) {
  const how = sanitize ? "under AddressSanitizer and UndefinedBehaviorSanitizer" : "as built";
  Deno.test(`the guest library passes its C tests ${how}`, async () => {
    const outDir = await Deno.makeTempDir({ prefix: "quasaur-native-" });
    try {
      const program = await buildNativeTest({ outDir, sanitize });
      const { code, stdout, stderr } = await new Deno.Command(program).output();
      const text = new TextDecoder().decode(stdout);
      const errors = new TextDecoder().decode(stderr);
      assert.equal(code, 0, `${text}${errors}`);
      assert.equal(text.split("\n").filter((line) => line.startsWith("ok ")).length, TESTS, text);
    } finally {
      await Deno.remove(outDir, { recursive: true });
    }
  });
}
