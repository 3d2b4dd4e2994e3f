/**
 * The one library: what can be found through it, and what is said where it is missing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { SandboxError } from "../../lifecycle/errors.ts";
import "../fixture.ts";
import { DEFAULT_LIBRARY_PATH, openLibrary } from "./library.ts";

const FUNCTIONS = {
  WasmEdge_VersionGetMajor: { parameters: [], result: "u32" },
  getpid: { parameters: [], result: "i32" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
} as const;

const functions = openLibrary(DEFAULT_LIBRARY_PATH, FUNCTIONS);

Deno.test("engine and C library are found through the guest library alone", () => {
  assert.equal(functions.WasmEdge_VersionGetMajor(), 0);
  assert.equal(functions.getpid(), Deno.pid);
});

Deno.test("a missing library says how to build it", () => {
  assert.throws(() => openLibrary("/nowhere/libquasaur-guest.so", FUNCTIONS), (error: unknown) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "FailedPrecondition");
    assert.match(error.message, /not built: run `deno run -A sandboxers\/wasm\/native\/build.ts`/);
    return true;
  });
});

Deno.test("a missing engine says which package to install", async () => {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-library-" });
  try {
    const cc = async (...args: string[]) => {
      const { success } = await new Deno.Command("cc", { args: ["-shared", "-fPIC", ...args] })
        .output();
      assert.ok(success);
    };
    // A library that is linked with an engine that is gone when it is opened.
    await Deno.writeTextFile(`${dir}/engine.c`, "int engine(void) { return 1; }\n");
    await Deno.writeTextFile(
      `${dir}/guest.c`,
      "int engine(void);\nint guest(void) { return engine(); }\n",
    );
    const engine = `${dir}/libwasmedge-gone.so.0`;
    await cc("-Wl,-soname,libwasmedge-gone.so.0", "-o", engine, `${dir}/engine.c`);
    await cc("-o", `${dir}/guest.so`, `${dir}/guest.c`, engine);
    await Deno.remove(engine);
    assert.throws(() => openLibrary(`${dir}/guest.so`, FUNCTIONS), (error: unknown) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "FailedPrecondition");
      assert.match(error.message, /install the Debian package libwasmedge0/);
      return true;
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("guests run with no permission but FFI for the one library", async () => {
  const script = fileURLToPath(new URL("./permissions_probe.ts", import.meta.url));
  const hello = fileURLToPath(
    new URL("../../../tests/guests/build/hello.wasm", import.meta.url),
  );
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--cached-only",
      `--allow-ffi=${DEFAULT_LIBRARY_PATH}`,
      script,
      hello,
    ],
  }).output();
  const errors = new TextDecoder().decode(stderr);
  assert.equal(code, 0, errors);
  assert.equal(new TextDecoder().decode(stdout), "hello from wasm\nexited 0\n", errors);
});
