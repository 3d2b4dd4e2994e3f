import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));

Deno.test("the wasm sandboxer that may not open its library says so and exits with 1", async () => {
  const dir = await Deno.makeTempDir({ prefix: "wasm-main-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        `--config=${CONFIG}`,
        `--allow-net=unix:${dir}/a.sock,unix:${dir}/t.sock`,
        `--allow-read=${dir}`,
        `--allow-write=${dir}`,
        "--ignore-env",
        MAIN,
        `--listen=${dir}/a.sock`,
        `--task-listen=${dir}/t.sock`,
        `--dir=${dir}/state`,
        "--containerd-events=none",
      ],
      env: { NO_COLOR: "1" },
    }).output();
    assert.equal(code, 1);
    assert.equal(new TextDecoder().decode(stdout), "");
    assert.match(new TextDecoder().decode(stderr), /cannot start.*libquasaur-guest\.so/);
    // The lock stays, for whoever comes next; nothing is behind it.
    const left = await Array.fromAsync(Deno.readDir(dir), ({ name }) => name);
    const state = await Array.fromAsync(Deno.readDir(`${dir}/state`), ({ name }) => name);
    assert.deepEqual([left, state], [["state"], ["lock"]]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("the wasm sandboxer's task needs no more than its permission set to print its help", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", `--config=${CONFIG}`, "-P=wasm", MAIN, "--help"],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.match(new TextDecoder().decode(stdout), /^quasaur-wasm: /);
});
