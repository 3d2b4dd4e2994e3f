import assert from "node:assert/strict";
import { SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";

Deno.test("identifiers of containerd are taken", () => {
  for (const id of ["a", "k8s.io", "0f3a", "pod-1_x.y", "A".repeat(128), "moby"]) {
    checkId("sandbox id", id);
  }
});

Deno.test("identifiers that could leave their directory, or are no names, are refused by field", () => {
  const bad = ["", ".", "..", "../x", "a/b", "/a", "-a", "_a", ".a", "a b", "a\n", "a\0", "ä"];
  for (const id of [...bad, "a".repeat(129)]) {
    assert.throws(() => checkId("sandbox id", id), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "InvalidArgument");
      assert.match(error.message, /^invalid sandbox id ".*": expected 1 to 128 letters/s);
      return true;
    }, JSON.stringify(id));
  }
});

Deno.test("a message about a huge identifier stays short", () => {
  assert.throws(() => checkId("exec id", "/".repeat(1_000_000)), (error) => {
    assert.ok(error instanceof SandboxError);
    return error.message.length < 300;
  });
});
