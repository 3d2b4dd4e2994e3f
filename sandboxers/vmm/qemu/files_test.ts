import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { copySparsely } from "./memory_copy.ts";
import { identityOf, logTail, openOwnFile } from "./own_files.ts";
import { type MachineRecord, readRecord, writeRecord } from "./record.ts";

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-qemu-files-" });
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a copy of memory is equal and leaves out what is zero", async () => {
  await inDirectory(async (directory) => {
    const bytes = new Uint8Array((5 << 20) + 4096);
    for (const [at, value] of [[0, 1], [70_000, 2], [(3 << 20) - 1, 3], [bytes.length - 1, 4]]) {
      bytes[at ?? 0] = value ?? 0;
    }
    await Deno.writeFile(`${directory}/a`, bytes);
    await Deno.writeTextFile(`${directory}/b`, "something else");
    using from = await Deno.open(`${directory}/a`);
    await copySparsely(from, `${directory}/b`, 0o600);
    assert.deepEqual(await Deno.readFile(`${directory}/b`), bytes);
    const { blocks, mode } = await Deno.stat(`${directory}/b`);
    assert.ok((blocks ?? 0) * 512 <= 6 * (64 << 10), `${blocks} blocks`);
    assert.equal((mode ?? 0) & 0o777, 0o600);
  });
});

Deno.test("a copy that is given up or finds no room leaves nothing", async () => {
  await inDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/a`, new Uint8Array(1 << 20).fill(1));
    using from = await Deno.open(`${directory}/a`);
    const failsWith = (code: string) => (thrown: unknown) => {
      assert.ok(thrown instanceof SandboxError);
      assert.equal(thrown.code, code);
      assert.match(thrown.message, /cannot copy a guest's memory to/);
      return true;
    };
    const copy = copySparsely(from, `${directory}/b`, 0o600, AbortSignal.abort());
    await assert.rejects(copy, failsWith("Cancelled"));
    await assert.rejects(Deno.stat(`${directory}/b`), Deno.errors.NotFound);
    const mounted = `${directory}/small`;
    await Deno.mkdir(mounted);
    const run = async (command: string, ...args: string[]) => {
      const { success } = await new Deno.Command(command, { args }).output();
      assert.ok(success, command);
    };
    await run("mount", "-t", "tmpfs", "-o", "size=256k", "none", mounted);
    try {
      await assert.rejects(
        copySparsely(from, `${mounted}/b`, 0o600),
        failsWith("ResourceExhausted"),
      );
      assert.deepEqual(await Array.fromAsync(Deno.readDir(mounted)), []);
    } finally {
      await run("umount", mounted);
    }
  });
});

Deno.test("a file that was put in the place of ours is not opened", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/memory`;
    await Deno.writeTextFile(path, "ours");
    const ours = identityOf(await Deno.lstat(path));
    (await openOwnFile(path, ours)).close();
    await Deno.writeTextFile(`${directory}/other`, "secret");
    await Deno.rename(path, `${directory}/moved`);
    await Deno.symlink(`${directory}/other`, path);
    await assert.rejects(openOwnFile(path), /is not the file that was made there/);
    assert.equal(await logTail(path), "");
    await Deno.remove(path);
    await Deno.link(`${directory}/other`, path);
    await assert.rejects(openOwnFile(path, ours), /is not the file that was made there/);
  });
});

Deno.test("the end of a log is one line without control characters", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/log`;
    await Deno.writeTextFile(path, "x".repeat(10_000) + "\nlast \x1b[31mword\r\n\n  end\x00\n");
    assert.equal(await logTail(path, 20), "; last [31mword; end");
    assert.equal((await logTail(path)).length, 1000);
    assert.equal(await logTail(`${directory}/none`), "");
  });
});

const RECORD: MachineRecord = {
  process: { pid: 7, startTime: 8 },
  spec: {
    machine: "q35",
    machineOptions: "",
    accelerator: "kvm",
    cpuModel: "host",
    cpus: 1,
    cpusMax: 2,
    memoryBytes: 1 << 28,
    memoryMaxBytes: 1 << 29,
    hugepages: false,
    kernel: "/k",
    initrd: "/i",
    kernelParams: "",
    entropySource: "/dev/urandom",
    network: "tap",
    interfaces: 2,
    diskSlots: 3,
    sharedTree: true,
    console: false,
  },
  place: {
    id: "a",
    directory: "/d",
    user: { uid: 5, gid: 6 },
    cgroup: "/c",
    sharedTreeSocket: "/s",
    memoryFile: "/m",
  },
  memory: { path: "/m", device: 1, inode: 2 },
  balloon: true,
};

Deno.test("a record is read as it was written", () => {
  assert.deepEqual(readRecord(writeRecord(RECORD)), RECORD);
  const { memoryFile: _, ...place } = RECORD.place;
  const bare = {
    ...RECORD,
    memory: undefined,
    place: { ...place, user: undefined, sharedTreeSocket: undefined },
  };
  assert.deepEqual(readRecord(writeRecord(bare)), bare);
});

Deno.test("a record that is damaged in any member is refused", () => {
  const text = JSON.stringify(writeRecord(RECORD));
  const damaged = [
    ...Array.from(text.matchAll(/"(\w+)":/g), (match) => text.replace(match[0], `"x${match[1]}":`)),
    ...Array.from(text.matchAll(/:(\d+|true|false)/g), (match) => {
      const at = match.index + 1;
      return `${text.slice(0, at)}"?"${text.slice(at + (match[1]?.length ?? 0))}`;
    }),
    "null",
    "[]",
    "7",
  ];
  // What may be missing: the members of a machine without a file server or files.
  const optional = /"x(user|sharedTreeSocket|memoryFile|memory)":/;
  for (const one of damaged.filter((candidate) => !optional.test(candidate))) {
    assert.throws(() => readRecord(JSON.parse(one)), (thrown) => {
      assert.ok(thrown instanceof SandboxError, `${one}: ${thrown}`);
      return thrown.code === "FailedPrecondition";
    }, one);
  }
});
