import assert from "node:assert/strict";
import type { PackageStep } from "./plan.ts";
import { describe, needsRoot } from "./words.ts";

const STEPS: readonly PackageStep[] = [
  { kind: "install", packages: ["gcc", "libc6-dev"], why: "C compiler" },
  { kind: "write", path: "/etc/apt/x", text: "Types: deb\n", why: "adds a suite" },
  { kind: "update", why: "fetches lists" },
  { kind: "install", packages: ["containerd"], suite: "forky", why: "containerd" },
];

Deno.test("describe() says what a step does and why", () => {
  assert.deepEqual(STEPS.map(describe), [
    "install gcc, libc6-dev: C compiler",
    "write /etc/apt/x: adds a suite",
    "run apt-get update: fetches lists",
    "install containerd from forky, with what they need: containerd",
  ]);
});

Deno.test("needsRoot() tells the commands that do the same", () => {
  const { code, message } = needsRoot(STEPS);
  assert.equal(code, "PermissionDenied");
  assert.deepEqual(message.split("\n").slice(1), [
    "sudo apt-get install --yes --no-install-recommends gcc libc6-dev",
    "sudo tee /etc/apt/x >/dev/null <<'END'",
    "Types: deb",
    "END",
    "sudo apt-get update",
    "sudo apt-get install --yes --no-install-recommends -t forky containerd",
  ]);
});
