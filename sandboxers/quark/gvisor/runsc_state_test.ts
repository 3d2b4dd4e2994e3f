import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import {
  controlSocketPath,
  listRecords,
  parseRecord,
  readRecord,
  removeRecord,
  statePath,
} from "./runsc_state.ts";

/** What runsc 20240729 writes down of a container, in part. */
const WRITTEN = {
  id: "c",
  spec: { ociVersion: "1.1.0" },
  bundleDir: "/b",
  status: "running",
  goferPid: 28513,
  sandbox: { id: "s", pid: 28430, controlSocketPath: "/r/runsc-s.sock" },
};

Deno.test("what runsc has written down of a container is read", () => {
  assert.deepEqual(parseRecord(JSON.stringify(WRITTEN)), {
    status: "running",
    sandboxPid: 28430,
    goferPid: 28513,
    controlSocket: "/r/runsc-s.sock",
  });
});

Deno.test("a container whose sandbox is gone has no processes", () => {
  const text = JSON.stringify({ ...WRITTEN, status: "stopped", sandbox: null, goferPid: 0 });
  assert.deepEqual(parseRecord(text), {
    status: "stopped",
    sandboxPid: 0,
    goferPid: 0,
    controlSocket: "",
  });
});

Deno.test("damage is no record", () => {
  for (const text of ["", "{", "null", "[]", '{"status":"dancing"}', '{"status":7}']) {
    assert.equal(parseRecord(text), undefined, text);
  }
});

Deno.test("records are found, read and removed, and nothing of others with them", async () => {
  const root = await Deno.makeTempDir({ prefix: "quasaur-runsc-test-" });
  try {
    const sandbox = { id: "s", sandboxId: "s" };
    const container = { id: "c", sandboxId: "s" };
    assert.deepEqual(await listRecords(root), []);
    assert.equal(await readRecord(root, container), undefined);
    for (const one of [sandbox, container]) {
      await Deno.writeTextFile(statePath(root, one), JSON.stringify(WRITTEN));
      await Deno.writeTextFile(statePath(root, one).replace(".state", ".lock"), "");
    }
    await Deno.writeTextFile(controlSocketPath(root, "s"), "");
    assert.equal((await readRecord(root, container))?.sandboxPid, 28430);
    const ids = (await listRecords(root)).map(({ id }) => id);
    assert.deepEqual(ids.sort(), ["c", "s"]);
    await removeRecord(root, container);
    assert.deepEqual(await listRecords(root), [sandbox]);
    assert.ok(await Deno.lstat(controlSocketPath(root, "s")));
    await removeRecord(root, sandbox);
    await removeRecord(root, sandbox);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(root)), []);
    assert.deepEqual(await listRecords(`${root}/missing`), []);
    await Deno.writeTextFile(statePath(root, container), "{");
    await assert.rejects(
      readRecord(root, container),
      (error) => error instanceof SandboxError && error.code === "DataLoss",
    );
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
