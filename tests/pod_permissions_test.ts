/**
 * The rights that the process of a pod has in Deno: FFI for one library, and nothing else.
 *
 * @module
 */

import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { run } from "./support/command.ts";
import { permissionFlags, REPOSITORY } from "./support/permissions.ts";

const SET: Readonly<Record<string, unknown>> = config.permissions["wasm-pod"];

/** What is tried, and the code that tries it. */
const FORBIDDEN: readonly (readonly [string, string])[] = [
  ["spawn a program", `await new Deno.Command("/bin/true").output()`],
  [
    "spawn the launcher",
    `await new Deno.Command("${REPOSITORY}/sandboxers/wasm/native/build/quasaur-launcher").output()`,
  ],
  ["read a file", `await Deno.readTextFile("/etc/passwd")`],
  ["read its own program", `await Deno.readTextFile("${REPOSITORY}/deno.json")`],
  ["write a file", `await Deno.writeTextFile("/tmp/quasaur-was-here", "")`],
  ["read the sandboxer's state", `for await (const _ of Deno.readDir("/run/quasaur")) break`],
  ["connect by TCP", `await Deno.connect({ hostname: "127.0.0.1", port: 9 })`],
  [
    "connect to the sandboxer",
    `await Deno.connect({ transport: "unix", path: "/run/quasaur/wasm-task.sock" })`,
  ],
  ["listen by TCP", `Deno.listen({ hostname: "127.0.0.1", port: 0 })`],
  ["open another library", `Deno.dlopen("libc.so.6", {})`],
  ["import code from the net", `await import("https://127.0.0.1/x.ts")`],
  ["ask for the host's name", `Deno.hostname()`],
];

/** Runs code with the permission set of pods' processes. */
async function attempt(code: string): Promise<{ status: number; output: string }> {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/probe.ts`, `${code};\n`);
    const { status, stdout, stderr } = await run([
      Deno.execPath(),
      "run",
      "--no-prompt",
      `--config=${REPOSITORY}/deno.json`,
      ...permissionFlags(SET, new Map()),
      `${directory}/probe.ts`,
    ], { check: false, env: { NO_COLOR: "1", QUASAUR_SECRET: "hush" } });
    return { status, output: stdout + stderr };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

for (const [what, code] of FORBIDDEN) {
  Deno.test(`the process of a pod may not ${what}`, async () => {
    const { status, output } = await attempt(code);
    assert.notEqual(status, 0, "it was allowed");
    assert.match(output, /NotCapable|Requires \w+ access/);
  });
}

Deno.test("the process of a pod sees nothing of an environment", async () => {
  const { status, output } = await attempt(
    `console.log(JSON.stringify([Deno.env.get("QUASAUR_SECRET"), Deno.env.get("HOME")]))`,
  );
  assert.equal(status, 0, output);
  assert.equal(output.trim(), "[null,null]");
});

Deno.test("the permission set of pods' processes names one library and nothing else", () => {
  assert.deepEqual(SET, {
    ffi: ["./sandboxers/wasm/native/build/libquasaur-guest.so"],
    env: { ignore: true },
  });
});
