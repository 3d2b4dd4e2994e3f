import assert from "node:assert/strict";
import { Progress } from "./progress.ts";

/** Runs something with a log file of its own. */
async function withProgress(
  body: (progress: Progress, told: () => string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  let told = "";
  try {
    await body(new Progress(`${directory}/log`, (text) => told += text), () => told);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("runLogged() keeps both outputs in the log and gives back those of one command", async () => {
  await withProgress(async (progress) => {
    await progress.runLogged(["echo", "earlier"], {}, 10_000);
    const command = ["sh", "-c", "echo out; echo $WORD >&2; exit 3"] as const;
    const { status, output } = await progress.runLogged([...command], { WORD: "err" }, 10_000);
    assert.equal(status, 3);
    assert.equal(output, "out\nerr\n");
    const log = await Deno.readTextFile(progress.logPath);
    assert.match(log, /\$ echo earlier\nearlier\n\n\$ sh -c [^]*out\nerr\n$/);
  });
});

Deno.test("runLogged() kills a command that takes too long", async () => {
  await withProgress(async (progress) => {
    const { status } = await progress.runLogged(["sleep", "60"], {}, 100);
    assert.equal(status, 128 + 9);
  });
});

Deno.test("lines and remarks are told as they come", async () => {
  await withProgress(async (progress, told) => {
    progress.line("one");
    progress.note("two");
    progress.line();
    await Promise.resolve();
    assert.equal(told(), "one\n     two\n\n");
  });
});
