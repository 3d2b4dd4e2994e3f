import assert from "node:assert/strict";
import { PipePoll } from "./pipe_poll.ts";

/** The read end of a pipe that a child process writes to. */
async function withPipe(script: string, test: (fd: number) => void): Promise<void> {
  const path = await Deno.makeTempFile();
  await Deno.remove(path);
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  assert.ok(success);
  // Opened for both, so that opening waits for nobody.
  const { openSync, closeSync } = await import("node:fs");
  const fd = openSync(path, "r+");
  try {
    const args = ["-c", `exec >"$0"; ${script}`, path];
    const child = new Deno.Command("/bin/sh", { args }).spawn();
    test(fd);
    assert.ok((await child.status).success);
  } finally {
    closeSync(fd);
    await Deno.remove(path);
  }
}

Deno.test("PipePoll waits until another process has written a byte", async () => {
  using poll = new PipePoll();
  await withPipe("sleep 0.05; printf x", (fd) => {
    assert.equal(poll.waitForByte(fd, 10_000), true);
    assert.equal(poll.waitForByte(fd, 0), true);
    const bytes = new Uint8Array(10);
    assert.equal(poll.read(fd, bytes), 1);
    assert.equal(bytes[0], "x".charCodeAt(0));
  });
});

Deno.test("PipePoll gives up when nobody writes", async () => {
  using poll = new PipePoll();
  await withPipe("true", (fd) => assert.equal(poll.waitForByte(fd, 20), false));
});
