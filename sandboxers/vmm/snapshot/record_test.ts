import assert from "node:assert/strict";
import { readSnapshotRecord, type SnapshotRecord, writeSnapshotRecord } from "./record.ts";

const RECORD: SnapshotRecord = {
  hostname: "box",
  network: "user",
  cpus: 2,
  resources: { memoryBytes: 1 << 20, cpuQuotaUs: 150_000, cpuPeriodUs: 100_000 },
  containers: [{
    id: "a",
    name: "a-1",
    command: ["sh", "-c", "read"],
    image: "disk-0",
    serial: "slot0",
    streams: { stdin: true, stdout: true, stderr: false, terminal: false },
  }],
};

/** A directory for a snapshot's record. */
class Place implements AsyncDisposable {
  private constructor(readonly directory: string) {}

  static async make(): Promise<Place> {
    return new Place(await Deno.makeTempDir({ prefix: "quasaur-record-" }));
  }

  /** Writes a record with members changed; undefined ones are taken out. */
  async write(changes: Readonly<Record<string, unknown>>): Promise<void> {
    const text = JSON.stringify({ version: 1, ...RECORD, ...changes });
    await Deno.writeTextFile(`${this.directory}/sandbox.json`, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("what a snapshot says of itself is read as it was written", async () => {
  await using place = await Place.make();
  await writeSnapshotRecord(place.directory, RECORD);
  assert.deepEqual(await readSnapshotRecord(place.directory), RECORD);
  await assert.rejects(writeSnapshotRecord(place.directory, RECORD), { code: "AlreadyExists" });
});

Deno.test("a directory without a record is no snapshot", async () => {
  await using place = await Place.make();
  await assert.rejects(readSnapshotRecord(place.directory), {
    code: "NotFound",
    message: /^cannot use the snapshot in ".*": it has no sandbox\.json: it is none, or was never/,
  });
});

Deno.test("what is wrong in a record is named", async () => {
  await using place = await Place.make();
  const [container] = RECORD.containers;
  const cases: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
    [{ version: 2 }, /version 2, expected 1$/],
    [{ version: undefined }, /"version" is missing/],
    [{ hostname: 5 }, /"hostname"/],
    [{ network: "host" }, /"network"/],
    [{ cpus: -1 }, /"cpus"/],
    [{ resources: [] }, /"resources"/],
    [{ resources: { memoryBytes: "many" } }, /"memoryBytes"/],
    [{ containers: {} }, /"containers"/],
    [{ containers: Array(1_001).fill(container) }, /1001 containers, at most 1000/],
    [{ containers: [container, container] }, /two containers have the id "a"$/],
    [{ containers: [{ ...container, id: undefined }] }, /"id"/],
    [{ containers: [{ ...container, image: "../../etc/shadow" }] }, /image "\.\.\/\.\.\/etc/],
    [{ containers: [{ ...container, command: [] }] }, /command \[\], expected a list of words$/],
    [{ containers: [{ ...container, command: ["a", 1] }] }, /command \["a",1\]/],
    [{ containers: [{ ...container, streams: { stdin: 1 } }] }, /"stdin"/],
  ];
  for (const [changes, message] of cases) {
    await place.write(changes);
    await assert.rejects(readSnapshotRecord(place.directory), {
      code: "FailedPrecondition",
      message: new RegExp(`^cannot use the snapshot in ".*": sandbox\\.json: .*${message.source}`),
    }, String(message));
  }
});

Deno.test("a record that is no JSON, or too large, is refused", async () => {
  await using place = await Place.make();
  await Deno.writeTextFile(`${place.directory}/sandbox.json`, "{");
  await assert.rejects(readSnapshotRecord(place.directory), { code: "FailedPrecondition" });
  await Deno.truncate(`${place.directory}/sandbox.json`, (1 << 20) + 1);
  await assert.rejects(readSnapshotRecord(place.directory), {
    code: "FailedPrecondition",
    message: /has 1048577 bytes, at most 1048576 are expected$/,
  });
});
