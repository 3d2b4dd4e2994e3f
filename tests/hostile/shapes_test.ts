import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { forEachMode } from "./modes.ts";
import {
  billionsOfItems,
  billionsOfLocals,
  deepBlocks,
  hugeCustomSection,
  longExport,
  longNames,
  manyExports,
  manyFunctions,
  manyImports,
  manyLocals,
  sameImports,
} from "./modules.ts";
import { hostileTests } from "./node_tests.ts";

/**
 * Modules by what is odd about them, and what must become of them: `runs` to its end, is `refused`
 * with a message that fits, or `either`.
 */
const SHAPES: readonly (readonly [string, Uint8Array<ArrayBuffer>, "runs" | "either" | RegExp])[] =
  [
    ["10,000 functions", manyFunctions(10_000), "runs"],
    ["100,000 exports", manyExports(100_000), "runs"],
    ["100,000 imports that nobody has", manyImports(100_000), /import/],
    ["100,000 times the same import", sameImports(100_000), "either"],
    ["imports with names of 1 MiB", longNames(1 << 20), /import|name|too long/],
    ["an export with a name of 1 MiB", longExport(1 << 20), "either"],
    ["50,000 local variables", manyLocals(50_000), "either"],
    ["4 billion local variables", billionsOfLocals(), /./],
    ["blocks 10,000 deep", deepBlocks(10_000), "either"],
    ["blocks 200,000 deep", deepBlocks(200_000), "either"],
    ["a custom section of 32 MiB", hugeCustomSection(32 << 20), "either"],
    ...[1, 2, 3, 4, 6, 7, 9, 10, 11].map((section) =>
      [`4 billion items in section ${section}`, billionsOfItems(section), /./] as const
    ),
  ];

/** A message that a person can be shown. */
const MESSAGE_MAX = 2_048;

/** What the modules may take that are kept for the next guest of their image. */
const MODULES_BYTES_MAX = 512 << 20;

forEachMode((mode) => {
  const test = hostileTests(mode, {
    modules: SHAPES.map(([, bytes], index) => [`shape-${index}`, bytes] as const),
    memorySlackBytes: MODULES_BYTES_MAX,
  });

  for (const [index, [what, , expected]] of SHAPES.entries()) {
    test(`a module with ${what} ${expected === "runs" ? "runs" : "hurts nobody"}`, async (node) => {
      await node.watch(what, async () => {
        await using pod = await node.pod();
        for (let round = 0; round < 2; round++) {
          const ended = await pod.run({ args: [`/shape-${index}.wasm`] }).then(
            async (guest) => (await guest.wait()).status,
            (error: unknown) => SandboxError.from(error),
          );
          if (expected === "runs") assert.equal(ended, 0);
          if (ended === 0) assert.ok(!(expected instanceof RegExp), "it ran");
          else {
            assert.ok(ended instanceof SandboxError, `status ${ended}`);
            assert.equal(ended.code, "InvalidArgument");
            assert.ok(ended.message.length < MESSAGE_MAX, `${ended.message.length} characters`);
            if (expected instanceof RegExp) assert.match(ended.message, expected);
          }
        }
      });
    });
  }
  // What a module looks like matters to the engine, not to who else is in the process.
}, ["compiled"]);
