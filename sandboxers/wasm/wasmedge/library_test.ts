/**
 * Engines of other versions: a library that has nothing but its version stands in for them.
 *
 * @module
 */

import assert from "node:assert/strict";
import "../fixture.ts";

const SOURCE = (version: string, minor: number) => `
const char *WasmEdge_VersionGet(void) { return "${version}"; }
unsigned WasmEdge_VersionGetMajor(void) { return 0; }
unsigned WasmEdge_VersionGetMinor(void) { return ${minor}; }
`;

const OPEN = `
import { DEFAULT_LIBRARY_PATH } from ${JSON.stringify(import.meta.resolve("../native/library.ts"))};
import { WasmEdgeLibrary } from ${JSON.stringify(import.meta.resolve("./library.ts"))};
try {
  new WasmEdgeLibrary(DEFAULT_LIBRARY_PATH);
  console.log("opened");
} catch (error) {
  console.log(error.code + ": " + error.message);
}
`;

/** What opening the engine says in a process that finds the library of a directory first. */
async function openWith(directory: string): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-lock", "-A", `${directory}/open.ts`],
    env: { LD_LIBRARY_PATH: directory, NO_COLOR: "1" },
  }).output();
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("an engine that is too old or too new is refused by its version", async () => {
  for (const [version, minor] of [["0.14.1", 14], ["0.16.3", 16], ["0.18.0", 18]] as const) {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-engine-" });
    try {
      await Deno.writeTextFile(`${directory}/engine.c`, SOURCE(version, minor));
      await Deno.writeTextFile(`${directory}/open.ts`, OPEN);
      const library = `${directory}/libwasmedge.so.0`;
      const { success } = await new Deno.Command("cc", {
        args: ["-shared", "-fPIC", "-o", library, `${directory}/engine.c`],
      }).output();
      assert.ok(success, "the stand-in is built");
      assert.equal(
        await openWith(directory),
        `FailedPrecondition: cannot use WasmEdge ${version}: from 0.17 to before 0.18 is needed: ` +
          "install that version of the Debian package libwasmedge0",
      );
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  }
});
