import assert from "node:assert/strict";
import { readSnapshotRecord, type SnapshotRecord, writeSnapshotRecord } from "./record.ts";

const CONTAINER = {
  id: "c1",
  name: "n1",
  command: ["sh"],
  rootfs: "/images/a",
  readonlyRootfs: false,
  resources: {},
  streams: { stdin: true, stdout: true, stderr: false },
};
const RECORD: SnapshotRecord = {
  runsc: "0.0~20240729.0",
  overlay: "memory",
  hostname: "box",
  resources: { memoryBytes: 1 << 28 },
  containers: [CONTAINER],
};

Deno.test("a snapshot's record is read as it was written, and a damaged one is told what is wrong", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-record-" });
  const path = `${directory}/sandbox.json`;
  try {
    await assert.rejects(readSnapshotRecord(directory), { code: "NotFound" });
    await writeSnapshotRecord(directory, RECORD);
    assert.deepEqual(await readSnapshotRecord(directory), RECORD);
    const whole: object = JSON.parse(await Deno.readTextFile(path));
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ kernel: undefined }, /kernel and version is \[null,1\], expected gvisor, 1/],
      [{ version: 2 }, /kernel and version is \["gvisor",2\]/],
      [{ runsc: "" }, /runsc is "", expected a word/],
      [{ resources: { memoryBytes: -1 } }, /memoryBytes is -1, expected a number above 0/],
      [{ containers: [CONTAINER, CONTAINER] }, /containers\.id is 2, expected one for each/],
      [{ containers: [{ ...CONTAINER, rootfs: "a" }] }, /rootfs is "a", expected an absolute path/],
      [
        { containers: [{ ...CONTAINER, command: [] }] },
        /command is \[\], expected a list of words/,
      ],
      [{ containers: [{ ...CONTAINER, streams: {} }] }, /stdin is null, expected true or false/],
      [{ containers: 7 }, /containers/],
    ];
    for (const [change, message] of wrong) {
      await Deno.writeTextFile(path, JSON.stringify({ ...whole, ...change }));
      await assert.rejects(readSnapshotRecord(directory), { code: "FailedPrecondition", message });
    }
    await Deno.writeTextFile(path, "{");
    await assert.rejects(readSnapshotRecord(directory), { code: "FailedPrecondition" });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
