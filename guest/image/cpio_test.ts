import assert from "node:assert/strict";
import { CPIO_ALIGNMENT_BYTES, type CpioEntry, readCpio, writeCpio } from "./cpio.ts";

const ENTRIES: readonly CpioEntry[] = [
  { kind: "directory", path: "usr", mode: 0o755 },
  { kind: "directory", path: "tmp", mode: 0o1777 },
  { kind: "file", path: "init", mode: 0o755, bytes: new TextEncoder().encode("agent") },
  { kind: "file", path: "usr/empty", mode: 0o600, bytes: new Uint8Array() },
  { kind: "link", path: "lib", target: "usr/lib" },
];

Deno.test("what is written is read again, in the order of names", () => {
  const read = readCpio(writeCpio(ENTRIES));
  assert.deepEqual(read.map(({ path }) => path), ["init", "lib", "tmp", "usr", "usr/empty"]);
  for (const entry of ENTRIES) {
    assert.deepEqual(read.find(({ path }) => path === entry.path), entry);
  }
});

Deno.test("the order in which entries are given does not matter", () => {
  assert.deepEqual(writeCpio(ENTRIES.toReversed()), writeCpio(ENTRIES));
});

Deno.test("an archive is filled up to whole pages", () => {
  for (let bytes = 3900; bytes < 4100; bytes += 7) {
    const file: CpioEntry = { kind: "file", path: "a", mode: 0o644, bytes: new Uint8Array(bytes) };
    assert.equal(writeCpio([file]).length % CPIO_ALIGNMENT_BYTES, 0);
  }
});

Deno.test("the system's cpio reads it, where there is one", async () => {
  const command = new Deno.Command("cpio", {
    args: ["--list", "--verbose", "--numeric-uid-gid", "--quiet"],
    env: { LC_ALL: "C", TZ: "UTC" },
    stdin: "piped",
    stdout: "piped",
  });
  let child: Deno.ChildProcess;
  try {
    child = command.spawn();
  } catch (error) {
    assert.ok(error instanceof Deno.errors.NotFound);
    return;
  }
  await ReadableStream.from([writeCpio(ENTRIES)]).pipeTo(child.stdin);
  const lines = new TextDecoder().decode((await child.output()).stdout).trim().split("\n");
  assert.match(lines[0] ?? "", /^-rwxr-xr-x +1 0 +0 +5 Jan +1 +1970 init$/);
  assert.match(lines[1] ?? "", /^lrwxrwxrwx .* lib -> usr\/lib$/);
  assert.match(lines[2] ?? "", /^drwxrwxrwt .* tmp$/);
  assert.equal(lines.length, ENTRIES.length);
});

Deno.test("what is cut off or no archive is refused", () => {
  const archive = writeCpio(ENTRIES);
  for (const bytes of [0, 5, 109, 120, 300]) {
    assert.throws(() => readCpio(archive.subarray(0, bytes)), /not an uncompressed cpio archive/);
  }
  assert.throws(() => readCpio(new Uint8Array(4096)), /at byte 0/);
  const huge = archive.slice();
  huge.set(new TextEncoder().encode("ffffffff"), 6 + 6 * 8);
  assert.throws(() => readCpio(huge), /not an uncompressed cpio archive/);
});
