import assert from "node:assert/strict";
import { open, SandboxError } from "../../mod.ts";
import { GUESTS_BUILD_DIR } from "../../tests/guests/build.ts";
import { buildNative } from "../wasm/native/build.ts";
import { checkEngine, openEmbeddedEngine } from "./wasm_engine.ts";

function refused(code: string, words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    return true;
  };
}

Deno.test("a program runs modules on V8 with streams, stats and kill", async () => {
  const warnings: string[] = [];
  await using sandboxer = await open("wasm", { engine: "v8", onWarning: (m) => warnings.push(m) });
  await using sandbox = await sandboxer.createSandbox();
  await using hello = await sandbox.run({ module: `${GUESTS_BUILD_DIR}/hello.wasm` });
  const { exit, stdout } = await hello.output();
  assert.equal(new TextDecoder().decode(stdout), "hello from wasm\n");
  assert.equal(exit.status, 0);
  await using spin = await sandbox.run({ module: `${GUESTS_BUILD_DIR}/spin.wasm` });
  const reader = spin.stdout.getReader();
  await reader.read();
  assert.ok((await spin.stats()).memoryBytes > 0);
  await spin.kill("SIGTERM");
  assert.equal((await spin.exit).status, 128 + 15);
  await reader.cancel();
  assert.deepEqual(warnings.filter((warning) => /V8/.test(warning)), []);
});

Deno.test("an engine that is not known is refused by name", async () => {
  assert.equal(checkEngine("v8"), "v8");
  assert.throws(() => checkEngine("jit"), refused("InvalidArgument", /engine "jit": unknown/));
  await assert.rejects(
    // @ts-expect-error: as a caller without types may give it
    open("wasm", { engine: "jit" }),
    refused("InvalidArgument", /expected wasmedge or v8/),
  );
});

Deno.test("V8 is taken with a warning where WasmEdge is not there, unless one was asked for", async () => {
  const outDir = await Deno.makeTempDir({ prefix: "quasaur-engine-" });
  try {
    const libraryPath = await buildNative({ outDir, engine: "without" });
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const { engine, compiled } = await openEmbeddedEngine({ libraryPath, onWarning });
    assert.equal(engine.name, "v8");
    assert.equal(compiled, undefined);
    await engine.close();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /^using V8 instead of WasmEdge: .* sockets.*libwasmedge0/);
    assert.doesNotMatch(warnings[0] ?? "", /\n/);
    const v8 = await openEmbeddedEngine({ libraryPath, onWarning, engine: "v8" });
    await v8.engine.close();
    assert.equal(warnings.length, 1);
    await assert.rejects(
      openEmbeddedEngine({ libraryPath, onWarning, engine: "wasmedge" }),
      refused("FailedPrecondition", /built without WasmEdge/),
    );
  } finally {
    await Deno.remove(outDir, { recursive: true });
  }
});

Deno.test("without the guest library there is no engine, and the message says how to build it", async () => {
  for (const engine of [undefined, "wasmedge", "v8"] as const) {
    await assert.rejects(
      openEmbeddedEngine({ libraryPath: "/nowhere/lib.so", ...(engine && { engine }) }),
      refused("FailedPrecondition", /not built: run `deno run -A/),
    );
  }
});
