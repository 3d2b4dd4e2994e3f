import assert from "node:assert/strict";
import { lastWords, panicLogOf } from "./last_words.ts";

Deno.test("of a crash report the line counts that says what happened", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-words-test-" });
  try {
    assert.equal(await lastWords(directory), "");
    const said = async (text: string) => {
      await Deno.writeTextFile(panicLogOf(directory), text);
      return await lastWords(directory);
    };
    const stacks = "\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1\n";
    assert.equal(
      await said(`panic: running on goroutine 7${stacks}`),
      "panic: running on goroutine 7",
    );
    assert.equal(await said(`SIGABRT: abort\nPC=0x1 m=0${stacks}`), "SIGABRT: abort");
    assert.equal(
      await said(`runtime: out of memory\nfatal error: out of memory${stacks}`),
      "runtime: out of memory",
    );
    assert.equal(await said(stacks), "");
    assert.equal(await said(""), "");
    assert.equal((await said(`panic: ${"x".repeat(100_000)}`)).length, 300);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
