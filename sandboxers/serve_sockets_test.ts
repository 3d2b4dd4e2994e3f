import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { keepOthersFromWriting } from "./umask.ts";

const OPEN_MASK = fileURLToPath(new URL("./serve_open_mask_main.ts", import.meta.url));
const NOOP = fileURLToPath(new URL("../bench/support/noop_main.ts", import.meta.url));

async function place(): Promise<AsyncDisposable & { readonly root: string }> {
  const root = await Deno.makeTempDir({ prefix: "serve-mask-" });
  return { root, [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }) };
}

/** Runs a program to its end. */
async function ended(command: string, ...args: readonly string[]) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args: [...args] }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

Deno.test("no socket is ever open to others, not before its mode is set and whatever the umask", async () => {
  await using here = await place();
  const { stdout, stderr } = await ended(
    Deno.execPath(),
    ...["run", "-A", "--no-prompt", OPEN_MASK, here.root],
  );
  assert.deepEqual(
    JSON.parse(stdout || stderr),
    // To connect is to write, and others may not.
    { "sandboxes.sock": "755", "tasks.sock": "755", "metrics.sock": "755", "file": "644" },
  );
});

Deno.test("a sandboxer that may not change a umask by which sockets would be open makes none", async () => {
  await using here = await place();
  const { root } = here;
  const sockets = [`${root}/noop.sock`, `${root}/noop-task.sock`];
  const { code, stderr } = await ended(
    "sh",
    ...["-c", 'umask 000; exec "$@"', "sh", Deno.execPath(), "run", "--no-prompt"],
    `--allow-net=${sockets.map((path) => `unix:${path}`).join(",")}`,
    ...[`--allow-read=${root}`, `--allow-write=${root}`, "--ignore-env", NOOP],
    ...[`--listen=${sockets[0]}`, `--task-listen=${sockets[1]}`, `--dir=${root}/state`],
    "--containerd-events=none",
  );
  assert.equal(code, 1);
  assert.match(stderr, /cannot keep others from the sockets: .* start it with the umask 022/);
  const left = (await Array.fromAsync(Deno.readDir(root))).map(({ name }) => name);
  assert.deepEqual(left, ["state"]);
});

Deno.test("what a mask takes away already stays away", async () => {
  await using here = await place();
  const before = Deno.umask(0o057);
  try {
    await keepOthersFromWriting(here.root);
    assert.equal(Deno.umask(0o022), 0o077);
  } finally {
    Deno.umask(before);
  }
});
