import assert from "node:assert/strict";
import type { VolumeEntry } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { createLog, noLog } from "../../log.ts";
import { rejects, until } from "./testing/fixture.ts";
import { VolumeSync, type VolumeSyncOptions } from "./volume_sync.ts";

/** A directory, and what is sent of it. */
async function world(changes: Partial<VolumeSyncOptions> = {}) {
  const source = await Deno.makeTempDir({ prefix: "quasaur-sync-" });
  const sent: VolumeEntry[] = [];
  const sync = new VolumeSync({
    source,
    limits: { bytesMax: 1_000, entriesMax: 10 },
    send: (entries) => Promise.resolve(void sent.push(...entries)),
    remember: () => Promise.resolve(),
    log: noLog,
    ...changes,
  });
  return {
    source,
    sync,
    sent,
    [Symbol.asyncDispose]: async () => {
      sync[Symbol.dispose]();
      await Deno.remove(source, { recursive: true });
    },
  };
}

Deno.test("where nothing is reported, all is looked at from time to time", async () => {
  let asked = 0;
  const watchFiles = () => {
    asked++;
    throw new Error("too many open files");
  };
  await using it = await world({ watchFiles, rescanMs: 20 });
  await it.sync.update();
  it.sync.watch();
  await until(() => asked > 0, "it was tried");
  await Deno.writeTextFile(`${it.source}/new`, "text");
  await until(() => it.sent.some(({ path }) => path === "new"), "the file is there");
});

Deno.test("a volume that grows too large is left as it is, and that is said once", async () => {
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line) });
  await using it = await world({ rescanMs: 10, log });
  await it.sync.update();
  await Deno.writeTextFile(`${it.source}/big`, "x".repeat(1_001));
  await rejects(it.sync.update(), "FailedPrecondition", /it holds more than 1000 bytes/);
  it.sync.watch();
  await until(() => lines.length > 0, "it was said");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(lines.length, 1, lines.join(""));
  assert.match(lines.join(""), /a volume cannot be brought up to date/);
  await Deno.truncate(`${it.source}/big`, 10);
  await until(() => it.sent.some(({ path }) => path === "big"), "the file is there");
});

Deno.test("a message that did not arrive is sent again with all that belongs to it", async () => {
  let failures = 1;
  const sent: VolumeEntry[] = [];
  const send = (entries: readonly VolumeEntry[]) => {
    if (failures-- > 0) return Promise.reject(new SandboxError("Unavailable", "no answer"));
    return Promise.resolve(void sent.push(...entries));
  };
  await using it = await world({ send });
  await Deno.writeTextFile(`${it.source}/file`, "text");
  await rejects(it.sync.update(), "Unavailable", /no answer/);
  await it.sync.update();
  assert.deepEqual(sent.map(({ path }) => path), [".", "file"]);
  await it.sync.update();
  assert.equal(sent.length, 2, "nothing has changed since");
});

Deno.test("a file that gives way to a link meanwhile is not followed", async () => {
  let swapped = false;
  const entries: VolumeEntry[] = [];
  await using it = await world({
    limits: { bytesMax: 1 << 20, entriesMax: 10 },
    // The first message goes out while the second file was seen, but not read yet.
    send: async (sent) => {
      entries.push(...sent);
      if (swapped) return;
      swapped = true;
      await Deno.remove(`${it.source}/second`);
      await Deno.symlink("/etc/passwd", `${it.source}/second`);
    },
  });
  await Deno.writeTextFile(`${it.source}/first`, "x".repeat(300 << 10));
  await Deno.writeTextFile(`${it.source}/second`, "mine");
  await it.sync.update();
  assert.ok(swapped);
  const secrets = entries.filter((entry) => entry.kind === "file" && entry.path === "second");
  assert.deepEqual(secrets, []);
  await it.sync.update();
  assert.deepEqual(entries.at(-1), { kind: "link", path: "second", target: "/etc/passwd" });
});
