import assert from "node:assert/strict";
import { leaks, snapshot } from "./leaks.ts";
import { run } from "./command.ts";
import { unmountBelow } from "./mount_table.ts";

Deno.test("leaks() finds a file, a descriptor and a mount that came to stay", async () => {
  const directory = await Deno.makeTempDir();
  const scope = { mountsBelow: [directory], filesBelow: [directory], pid: Deno.pid };
  try {
    const before = await snapshot(scope);
    // Deno starts threads of its own when it likes.
    const found = async () =>
      leaks(before, await snapshot(scope)).filter((line) => !line.startsWith("thread")).sort();
    assert.deepEqual(await found(), []);
    await Deno.mkdir(`${directory}/m`);
    await run(["mount", "-t", "tmpfs", "none", `${directory}/m`]);
    using _file = await Deno.create(`${directory}/f`);
    assert.deepEqual(await found(), [
      `descriptor "${directory}/f": 0 before, 1 after`,
      `file "${directory}/f": 0 before, 1 after`,
      `file "${directory}/m": 0 before, 1 after`,
      `mount "${directory}/m (tmpfs)": 0 before, 1 after`,
    ]);
  } finally {
    await unmountBelow(directory);
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("leaks() counts names that occur more often", () => {
  const at = (count: number) => new Map([["thread", new Map([["worker", count]])]]);
  assert.deepEqual(leaks(at(2), at(3)), ['thread "worker": 2 before, 3 after']);
  assert.deepEqual(leaks(at(3), at(2)), []);
});
