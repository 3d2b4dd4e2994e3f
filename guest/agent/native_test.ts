import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { buildAgent } from "./build.ts";
import { wantsConsole } from "./debug_console.ts";
import { errnoName } from "./errno.ts";
import { hostLinkOf, PORT_NAME } from "./host_link.ts";

let said: Promise<readonly string[]> | undefined;

/** What the test program says, a line for each check. It is built and run once. */
function checks(): Promise<readonly string[]> {
  return said ??= runProgram();
}

async function runProgram(): Promise<readonly string[]> {
  const outDir = await Deno.makeTempDir({ prefix: "agent-native-test-" });
  try {
    const main = fileURLToPath(new URL("native_test_program.ts", import.meta.url));
    const program = await buildAgent({ outDir, main });
    const { code, stderr } = await new Deno.Command(program, {
      env: { TEST_DIRECTORY: outDir },
      stdin: "null",
    }).output();
    assert.equal(code, 0);
    // What was told as uncaught is part of the test.
    return new TextDecoder().decode(stderr).trim().split("\n")
      .filter((line) => /^(ok|FAILED|done)\b/.test(line));
  } finally {
    await Deno.remove(outDir, { recursive: true });
  }
}

Deno.test("native module does what it says, and the loop survives every failure", async () => {
  const lines = (await checks()).filter((line) => !line.includes(" channel: "));
  assert.deepEqual(lines.filter((line) => line.startsWith("FAILED")), []);
  assert.equal(lines.at(-1), "done");
});

Deno.test("a port whose bytes come before its host does is heard, a host that went is not", async () => {
  const lines = (await checks()).filter((line) => line.includes(" channel: "));
  assert.deepEqual(lines.filter((line) => line.startsWith("FAILED")), []);
  assert.equal(lines.length, 8);
});

Deno.test("buildAgent() names what is wrong with the sources", async () => {
  const outDir = await Deno.makeTempDir({ prefix: "agent-native-test-" });
  try {
    await Deno.writeTextFile(`${outDir}/main.ts`, 'import { no } from "./missing.ts"; no();');
    await assert.rejects(
      buildAgent({ outDir, main: `${outDir}/main.ts` }),
      /cannot bundle the agent: [^]*missing\.ts/,
    );
  } finally {
    await Deno.remove(outDir, { recursive: true });
  }
});

Deno.test("hostLinkOf() reads the kernel command line", () => {
  const port = { kind: "port", name: PORT_NAME };
  assert.deepEqual(hostLinkOf("quiet panic=-1\n"), port);
  assert.deepEqual(hostLinkOf("quiet quasaur.agent=vsock:1024\n"), { kind: "vsock", port: 1024 });
  assert.deepEqual(hostLinkOf("quasaur.agent=vsock: not.quasaur.agent=vsock:1"), port);
});

Deno.test("wantsConsole() takes nothing but the whole word", () => {
  assert.equal(wantsConsole("quiet quasaur.console\n"), true);
  assert.equal(wantsConsole("quasaur.console2 no-quasaur.console"), false);
});

Deno.test("errnoName() names errors, also those that it does not know", () => {
  assert.deepEqual([errnoName(-2), errnoName(2), errnoName(999)], [
    "ENOENT",
    "ENOENT",
    "errno 999",
  ]);
});
