import assert from "node:assert/strict";
import { readEnvFile } from "./run_env_file.ts";

/** Reads a file with a content. */
function read(content: string | Uint8Array): Readonly<Record<string, string>> {
  const path = Deno.makeTempFileSync({ prefix: "quasaur-env-" });
  try {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    Deno.writeFileSync(path, bytes);
    return readEnvFile(path);
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("--env-file takes a variable from each line, and nothing from comments", () => {
  const text = '\n# comment\n  A=1\nB=\nC=d=e # no comment\r\nD= spaces \n\nQ="kept"\nA=2';
  assert.deepEqual(read(text), {
    A: "2",
    B: "",
    C: "d=e # no comment",
    D: " spaces ",
    Q: '"kept"',
  });
  assert.deepEqual(read("\uFEFFA=1"), { A: "1" });
  assert.deepEqual(read(""), {});
});

Deno.test("--env-file says in which line it is wrong", () => {
  const cases: [string | Uint8Array, RegExp][] = [
    ["A=1\nHOME\n", /--env-file ".*": line 2: expected NAME=VALUE, found "HOME"/],
    ["A=1\n\n=x", /line 3: expected a name without spaces before "=", found ""/],
    ["A B=1", /line 1: expected a name without spaces before "=", found "A B"/],
    ["A=1\nB=a\0b", /line 2: expected text without NUL/],
    [new Uint8Array([0x41, 0x3d, 0x31, 0x0a, 0x42, 0x3d, 0xff]), /line 2: expected UTF-8/],
  ];
  for (const [content, message] of cases) {
    assert.throws(() => read(content), { name: "UsageError", message });
  }
  assert.throws(() => readEnvFile("/nowhere/env"), { message: /there is no such file/ });
  assert.throws(() => readEnvFile("/"), { name: "UsageError" });
});
