import assert from "node:assert/strict";
import { lockDirectory } from "./serve_lock.ts";

Deno.test("the lock of a process that is just gone is waited for, that of one that lives is not taken", async () => {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-lock-" });
  const other = new Deno.Command("flock", {
    args: [`${dir}/lock`, "sh", "-c", "echo locked; read line"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  try {
    const reader = other.stdout.getReader();
    assert.equal(new TextDecoder().decode((await reader.read()).value), "locked\n");
    await assert.rejects(lockDirectory(dir), {
      code: "AlreadyExists",
      message: /^cannot use the state directory ".*": another sandboxer is using it; /,
    });
    const locking = lockDirectory(dir);
    await other.stdin.close();
    await reader.cancel();
    (await locking)[Symbol.dispose]();
  } finally {
    await other.status;
    await Deno.remove(dir, { recursive: true });
  }
});
