import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import {
  checkRunsc,
  goVersion,
  knownProblem,
  parseRunscVersion,
  runscVersion,
} from "./runsc_version.ts";

Deno.test("the versions of Debian and of gVisor itself are read", () => {
  assert.deepEqual(parseRunscVersion("runsc version 0.0~20240729.0\nspec: 1.2.0\n"), {
    version: "0.0~20240729.0",
    spec: "1.2.0",
  });
  assert.deepEqual(parseRunscVersion("runsc version release-20250101.0\n"), {
    version: "release-20250101.0",
    spec: "",
  });
  assert.equal(parseRunscVersion("runc version 1.1.0\n"), undefined);
});

Deno.test("only the build that crashes is told of", () => {
  assert.match(knownProblem("0.0~20240729.0", "1.26.1") ?? "", /one run in ten.*trixie/);
  assert.equal(knownProblem("0.0~20240729.0", "1.24.4"), undefined);
  assert.equal(knownProblem("0.0~20240729.0", undefined), undefined);
  assert.equal(knownProblem("release-20260101.0", "1.26.1"), undefined);
});

Deno.test("the installed runsc tells its version and the Go that built it", async () => {
  const found = await checkRunsc("/usr/bin/runsc");
  assert.match(found.version, /\d{8}/);
  assert.match(found.go ?? "", /^1\.\d+/);
  assert.equal(found.problem, knownProblem(found.version, found.go));
});

Deno.test("the Go of a program is found wherever it lies in the file, and not where there is none", async () => {
  const path = await Deno.makeTempFile({ prefix: "quasaur-runsc-test-" });
  try {
    const info = new Uint8Array([
      0xff,
      ...new TextEncoder().encode(` Go buildinf:\x08\x02${"\0".repeat(16)}\x08go1.25.10\x20path`),
      ...new Uint8Array(200),
    ]);
    // Also across the border of what is read at a time.
    for (const at of [0, 16, 1024 * 1024 - 40, 1024 * 1024 - 3, 1024 * 1024 + 7]) {
      const bytes = new Uint8Array(at + info.length + 5);
      bytes.set(info, at);
      await Deno.writeFile(path, bytes);
      assert.equal(await goVersion(path), "1.25.10", `${at}`);
    }
    await Deno.writeFile(path, new Uint8Array(3_000_000));
    assert.equal(await goVersion(path), undefined);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a runsc that is missing, and a program that is none, are said so with what to do", async () => {
  const said = async (program: string) => {
    const error = await runscVersion(program).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof SandboxError);
    return `${error.code}: ${error.message}`;
  };
  assert.match(
    await said("/nosuch/runsc"),
    /^FailedPrecondition: cannot ask "\/nosuch\/runsc" .* is missing: run "deno task setup"/,
  );
  assert.match(await said("/bin/echo"), /^FailedPrecondition: .*: it is no runsc: it says "/);
});
