import assert from "node:assert/strict";
import { readConfigFile, readOptionalConfigFile } from "./file.ts";

Deno.test("readConfigFile() names the file and says what is wrong with it", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-config-test-" });
  try {
    const path = `${directory}/x.toml`;
    const fails = (code: string, message: RegExp) =>
      assert.throws(() => readConfigFile(path), (error: unknown) => {
        assert.ok(error instanceof Error && "code" in error);
        assert.equal(error.code, code);
        assert.ok(error.message.includes(path), error.message);
        assert.match(error.message, message);
        return true;
      });
    fails("NotFound", /no such file$/);
    assert.equal(readOptionalConfigFile(path), undefined);
    await Deno.mkdir(path);
    fails("InvalidArgument", /no regular file$/);
    await Deno.remove(path);
    await Deno.writeFile(path, new Uint8Array([0x61, 0xff, 0xfe]));
    fails("InvalidArgument", /not UTF-8 text$/);
    await Deno.truncate(path, (1 << 20) + 1);
    fails("InvalidArgument", /1048577 bytes, more than 1048576$/);
    await Deno.writeTextFile(path, "a = \n");
    fails("InvalidArgument", /line 1: not TOML/);
    assert.throws(() => readOptionalConfigFile(path), { code: "InvalidArgument" });
    await Deno.writeTextFile(path, "\ufeffa = 1\n");
    assert.equal(readConfigFile(path).place(1), `${path}:1`);
    assert.ok(readConfigFile(path).table.entries.has("a"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
