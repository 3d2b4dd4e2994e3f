import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const STUB = fileURLToPath(new URL("./containerd-shim-quasaur", import.meta.url));
const NAME = "containerd-shim-quasaur-wasm-v1";

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the stub under its installed name, as containerd does. */
async function run(...args: string[]): Promise<Outcome> {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, NAME);
    await Deno.symlink(STUB, path);
    const output = await new Deno.Command(path, { args, cwd: dir, stdin: "null" }).output();
    const text = new TextDecoder();
    return {
      code: output.code,
      stdout: text.decode(output.stdout),
      stderr: text.decode(output.stderr),
    };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The arguments that containerd gives (pkg/shim/util.go, Command). */
function containerdArgs(action: string, id = "c1"): string[] {
  return [
    ...["-namespace", "k8s.io", "-address", "/run/containerd/containerd.sock"],
    ...["-publish-binary", "/usr/bin/containerd", "-id", id, "-bundle", "/run/b", "-debug"],
    action,
  ];
}

Deno.test("the stub's delete answers that the task was killed", async () => {
  const { code, stdout, stderr } = await run(...containerdArgs("delete"));
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  // DeleteResponse{exit_status: 137}; the last two bytes are no UTF-8 text.
  assert.equal(stdout, new TextDecoder().decode(new Uint8Array([0x10, 0x89, 0x01])));
});

Deno.test("the stub's start fails and says what to set", async () => {
  const { code, stdout, stderr } = await run(...containerdArgs("start"));
  assert.equal(code, 1);
  assert.equal(stdout, "");
  assert.match(stderr, /served by the quasaur wasm sandboxer/);
  assert.match(stderr, /sandboxer = "quasaur-wasm"/);
});

Deno.test("a container whose id is the name of an action does not confuse the stub", async () => {
  assert.equal((await run(...containerdArgs("delete", "start"))).code, 0);
  assert.equal((await run(...containerdArgs("start", "delete"))).code, 1);
});

Deno.test("the stub's info is a RuntimeInfo with its name", async () => {
  const { code, stdout, stderr } = await run("-info");
  assert.deepEqual([code, stderr], [0, ""]);
  // Field 1 (name), wire type 2, length, bytes: containerd api/types/introspection.proto.
  assert.equal(stdout, `\x0a${String.fromCharCode(NAME.length)}${NAME}`);
});

Deno.test("the stub tells its version", async () => {
  const { code, stdout } = await run("-v");
  assert.equal(code, 0);
  assert.match(stdout, /containerd-shim-quasaur-wasm-v1/);
});

Deno.test("the stub refuses anything else with its usage", async () => {
  for (const args of [[], ["-namespace", "x"], ["serve"]]) {
    const { code, stdout, stderr } = await run(...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^usage: containerd-shim-quasaur-wasm-v1 /);
  }
});
