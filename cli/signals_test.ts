import assert from "node:assert/strict";
import type { GuestName } from "../tests/guests/build.ts";
import { COMMAND, decode, guest, readUntil, Workplace } from "./testing/command.ts";

/** Runs a guest until it has said something, sends a signal and gives the exit code. */
async function interrupted(
  place: Workplace,
  name: GuestName,
  says: string,
  signal: Deno.Signal,
): Promise<{ readonly code: number; readonly stderr: string }> {
  const child = place.start(["run", "wasm", guest(name)], { stdin: "piped" });
  if (name === "cat") await write(child, says);
  const reader = child.stdout.getReader();
  await readUntil(reader, says);
  child.kill(signal);
  const { code } = await child.status;
  const stderr = await new Response(child.stderr).text();
  await reader.cancel();
  await child.stdin.abort().catch(() => undefined);
  await place.assertClean();
  return { code, stderr };
}

async function write(child: Deno.ChildProcess, text: string): Promise<void> {
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  writer.releaseLock();
}

const SIGNALS: [Deno.Signal, number][] = [
  ["SIGHUP", 129],
  ["SIGINT", 130],
  ["SIGQUIT", 131],
  ["SIGTERM", 143],
];

for (const [signal, expected] of SIGNALS) {
  Deno.test(`${signal} ends a guest that sleeps, and the command with ${expected}`, async () => {
    await using place = await Workplace.make();
    assert.deepEqual(await interrupted(place, "sleep", "sleeping", signal), {
      code: expected,
      stderr: "",
    });
  });
}

Deno.test("SIGINT ends a guest that computes", async () => {
  await using place = await Workplace.make();
  assert.equal((await interrupted(place, "spin", "spinning", "SIGINT")).code, 130);
});

Deno.test("SIGINT ends a guest that waits for input", async () => {
  await using place = await Workplace.make();
  assert.equal((await interrupted(place, "cat", "hello", "SIGINT")).code, 130);
});

Deno.test("SIGTERM ends a guest whose output nobody reads", async () => {
  await using place = await Workplace.make();
  const child = place.start(["run", "wasm", "--env", "ID=a", guest("lines"), "1000000"]);
  const reader = child.stdout.getReader();
  await readUntil(reader, "a out 0");
  child.kill("SIGTERM");
  assert.equal((await child.status).code, 143);
  await reader.cancel();
  await child.stderr.cancel();
  await place.assertClean();
});

Deno.test("a signal right after the start ends the command, whatever it is doing", async () => {
  await using place = await Workplace.make();
  for (const delayMs of [0, 30, 60, 90, 120, 150, 180, 210]) {
    const child = place.start(["run", "wasm", guest("sleep")], { stdout: "null", stderr: "null" });
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    child.kill("SIGINT");
    const { code, signal } = await child.status;
    // Before the command listens for it, the signal has its usual effect.
    assert.ok(signal === "SIGINT" || code === 130, `${code} ${signal}`);
    await place.assertClean();
  }
});

const NO_SCRIPT = !await isThere("/usr/bin/script");

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

Deno.test({
  name: "Ctrl-C on a terminal ends the guest, and the terminal is as it was",
  ignore: NO_SCRIPT,
  fn: async () => {
    await using place = await Workplace.make();
    // script(1) runs a command on a terminal of its own and types what it reads itself. Ctrl-C
    // reaches the shell too: it is to go on, as one at a prompt does.
    const command = [...COMMAND, "run", "wasm", guest("cat")].map(quote).join(" ");
    const script = `trap : INT; stty -a; echo ready; ${command}; echo "ended $?"; stty -a`;
    const terminal = new Deno.Command("script", {
      args: ["-q", "-c", script, "/dev/null"],
      cwd: place.path,
      env: { TMPDIR: place.temporary, SHELL: "/bin/sh" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = terminal.stdout.getReader();
    const keys = terminal.stdin.getWriter();
    try {
      const before = await readUntil(reader, "ready\r\n");
      await keys.write(new TextEncoder().encode("typed line\n"));
      // Once by the terminal's echo, once by the guest.
      await readUntil(reader, "typed line\r\ntyped line\r\n");
      await keys.write(new Uint8Array([0x03]));
      const after = await readUntil(reader, "ended 130");
      const rest = await readRest(reader);
      assert.equal(settings(after + rest), settings(before));
    } finally {
      await keys.close().catch(() => undefined);
      await reader.cancel();
      await terminal.status;
    }
    await place.assertClean();
  },
});

async function readRest(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
): Promise<string> {
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += decode(part.value);
  }
  return text;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The flags of a terminal as stty prints them. */
function settings(text: string): string {
  return [...text.matchAll(/-?(?:icanon|echo|isig|icrnl|opost|onlcr)\b/g)].join(" ");
}
