import assert from "node:assert/strict";
import { DEFAULT_LAUNCHER_PATH } from "../sandboxers/wasm/native/launcher_file.ts";
import { run } from "./support/command.ts";
import { permissionFlags, REPOSITORY } from "./support/permissions.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";

/** What a sandboxer may not do: what is tried, and the code that tries it. */
const FORBIDDEN: readonly (readonly [string, string])[] = [
  ["spawn a program", `await new Deno.Command("/bin/true").output()`],
  [
    "spawn a program through node's API",
    `const { spawn } = await import("node:child_process");
    await new Promise((exit, fail) => spawn("/bin/true").on("exit", exit).on("error", fail))`,
  ],
  [
    "spawn the launcher under another loader",
    `await new Deno.Command(LAUNCHER, { env: { LD_PRELOAD: "/tmp/x.so" } }).output()`,
  ],
  [
    "spawn a copy of the launcher",
    `await new Deno.Command("/tmp/quasaur-launcher").output()`,
  ],
  ["end another process", `Deno.kill(1, "SIGCONT")`],
  ["read /etc/passwd", `await Deno.readTextFile("/etc/passwd")`],
  ["read the home directory", `for await (const _ of Deno.readDir("/root")) break`],
  [
    "read containerd's content store",
    `for await (const _ of Deno.readDir("/var/lib/containerd")) break`,
  ],
  ["write to /etc", `await Deno.writeTextFile("/etc/quasaur-was-here", "")`],
  ["write to /tmp", `await Deno.writeTextFile("/tmp/quasaur-was-here", "")`],
  ["connect by TCP", `await Deno.connect({ hostname: "127.0.0.1", port: 9 })`],
  ["listen by TCP", `Deno.listen({ hostname: "127.0.0.1", port: 0 })`],
  [
    "connect to another unix socket",
    `await Deno.connect({ transport: "unix", path: "/run/x.sock" })`,
  ],
  ["open another library", `Deno.dlopen("libc.so.6", {})`],
  ["import code from the net", `await import("https://127.0.0.1/x.ts")`],
];

/** Said before each of them. */
const HEAD = `const LAUNCHER = ${JSON.stringify(DEFAULT_LAUNCHER_PATH)};\n`;

/** Runs code with the permission set of a sandboxer. */
async function runWith(kind: string, code: string): Promise<{ status: number; output: string }> {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/probe.ts`, `${HEAD}${code};\n`);
    const flags = permissionFlags(sandboxerProgram(kind).permissions, new Map());
    const { status, stdout, stderr } = await run([
      Deno.execPath(),
      "run",
      "--no-prompt",
      `--config=${REPOSITORY}/deno.json`,
      ...flags,
      `${directory}/probe.ts`,
    ], { check: false, env: { NO_COLOR: "1", QUASAUR_SECRET: "hush" } });
    return { status, output: stdout + stderr };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

for (const [what, code] of FORBIDDEN) {
  Deno.test(`the wasm sandboxer may not ${what}`, async () => {
    const { status, output } = await runWith("wasm", code);
    assert.notEqual(status, 0, "it was allowed");
    assert.match(output, /NotCapable|Requires \w+ access/);
  });
}

Deno.test("the wasm sandboxer sees none of the environment but what it is told by systemd", async () => {
  const code =
    `console.log(JSON.stringify([Deno.env.get("QUASAUR_SECRET"), Deno.env.get("HOME")]))`;
  const { status, output } = await runWith("wasm", code);
  assert.equal(status, 0, output);
  assert.equal(output.trim(), "[null,null]");
});

Deno.test("the wasm sandboxer has no right to everything of a kind", () => {
  for (const [name, value] of Object.entries(sandboxerProgram("wasm").permissions)) {
    assert.notEqual(value, true, `"${name}" is not limited`);
  }
});

Deno.test("the wasm sandboxer may spawn its launcher, which runs no program that is named to it", async () => {
  const attempts: readonly (readonly string[])[] = [
    [],
    ["/bin/true"],
    ["--help"],
    ["compile", "/bin/true"],
    ["compile", "--optimize=9"],
    ["compile", "--optimize=2", "--", "/bin/true"],
    ["exec", "/bin/true"],
    ["compile\n"],
  ];
  const code = `for (const args of ${JSON.stringify(attempts)}) {
    const { code, stdout } = await new Deno.Command(LAUNCHER, { args, stdin: "null" }).output();
    console.log(code, stdout.length);
  }
  const { code, stderr } = await new Deno.Command(LAUNCHER, { args: ["compile"], stdin: "null" })
    .output();
  console.log(code, new TextDecoder().decode(stderr).trim());`;
  const { status, output } = await runWith("wasm", code);
  assert.equal(status, 0, output);
  assert.equal(
    output,
    "2 0\n".repeat(attempts.length) + "4 quasaur-launcher: unexpected end\n",
  );
});
