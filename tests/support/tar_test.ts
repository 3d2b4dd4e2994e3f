import assert from "node:assert/strict";
import { run } from "./command.ts";
import { tar } from "./tar.ts";

Deno.test("tar() writes what the system's tar reads", async () => {
  const data = new TextEncoder().encode("hello\n");
  const archive = tar([
    { kind: "directory", path: "bin", mode: 0o755 },
    { kind: "file", path: "bin/hello", data, mode: 0o750 },
    { kind: "file", path: "empty", data: new Uint8Array() },
    { kind: "file", path: "block", data: new Uint8Array(512).fill(65) },
    { kind: "symlink", path: "bin/hi", target: "hello" },
  ]);
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${directory}/a.tar`, archive);
    await run(["tar", "-xf", "a.tar"], { cwd: directory });
    assert.equal(await Deno.readTextFile(`${directory}/bin/hi`), "hello\n");
    assert.equal(await Deno.readTextFile(`${directory}/empty`), "");
    assert.equal(await Deno.readTextFile(`${directory}/block`), "A".repeat(512));
    assert.equal((await Deno.stat(`${directory}/bin/hello`)).mode, 0o100750);
    assert.equal(await Deno.readLink(`${directory}/bin/hi`), "hello");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("tar() refuses a name that does not fit the header", () => {
  const entry = { kind: "directory", path: "x".repeat(101) } as const;
  assert.throws(() => tar([entry]), /longer than 100 bytes/);
});

Deno.test("tar() gives the same bytes for the same input", () => {
  const entry = { kind: "file", path: "a", data: new Uint8Array(3) } as const;
  assert.deepEqual(tar([entry]), tar([entry]));
});
