/**
 * System calls, memory and errors.
 *
 * @module
 */

import assert from "node:assert/strict";
import { collect, system, usage } from "../fixture.ts";
import { errnoName, systemError } from "./errno.ts";
import { DEFAULT_LIBRARY_PATH } from "./library.ts";
import { Memory } from "./memory.ts";
import { AT_FDCWD, CLONE_NEWNET, OPEN, RESOLVE_IN_ROOT } from "./syscalls.ts";

const memory = new Memory(DEFAULT_LIBRARY_PATH);

Deno.test("files of any size are read whole", async () => {
  const path = await Deno.makeTempFile();
  for (const size of [0, 1, 127, 262_144, 262_145, 20_000_001]) {
    const bytes = new Uint8Array(size).map((_, i) => i * 31 + (i >> 8));
    await Deno.writeFile(path, bytes);
    const fd = system.open(path, OPEN.readOnly, "file");
    assert.deepEqual(system.status(fd), { kind: "file", sizeBytes: size });
    const read = await system.readFile(fd, size);
    assert.equal(read.length, size);
    assert.ok(read.every((byte, i) => byte === bytes[i]), `${size}`);
    assert.equal((await system.readFile(fd, size + 10)).length, size);
    system.close(fd);
  }
  await Deno.remove(path);
});

Deno.test("tryWrite writes where there is room and never waits", async () => {
  const [readFd, writeFd] = system.pipe();
  assert.equal(system.tryWrite(writeFd, new Uint8Array([0x6f, 0x6b])), true);
  const text = collect(readFd);
  system.close(writeFd);
  assert.equal(await text, "ok");
  const [goneFd, brokenFd] = system.pipe();
  system.close(goneFd);
  assert.equal(system.tryWrite(brokenFd, new Uint8Array(1)), true);
  system.close(brokenFd);
  const [slowFd, fullFd] = system.pipe();
  for (let i = 0; system.tryWrite(fullFd, new Uint8Array(4_096)); i++) assert.ok(i < 1_000);
  assert.equal(system.tryWrite(fullFd, new Uint8Array(1)), false);
  system.close(slowFd);
  system.close(fullFd);
});

Deno.test("paths below a directory do not leave it", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.symlink("/etc/hostname", `${dir}/absolute`);
  await Deno.symlink("../../../../../../etc/hostname", `${dir}/relative`);
  const fd = system.open(dir, OPEN.path | OPEN.directory, "directory");
  for (const path of ["absolute", "relative", "../../../../etc/hostname", "/etc/hostname"]) {
    assert.equal(system.openAt(fd, path, OPEN.readOnly, RESOLVE_IN_ROOT), -2, path);
  }
  system.close(fd);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("namespaces are told from other files", () => {
  const network = system.open("/proc/self/ns/net", OPEN.readOnly, "namespace");
  const file = system.open("/etc/passwd", OPEN.readOnly, "file");
  assert.equal(system.namespaceKind(network), CLONE_NEWNET);
  assert.ok(system.namespaceKind(file) < 0);
  system.close(network);
  system.close(file);
});

Deno.test("descriptors are opened close-on-exec and closed for good", () => {
  const before = usage();
  const fd = system.openAt(AT_FDCWD, "/dev/null", OPEN.readWrite, 0);
  assert.equal(system.status(fd).kind, "character");
  assert.ok(system.isOpen(fd));
  assert.match(Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`), /flags:\s+0?2\d{6}/);
  system.setNonblocking(fd, true);
  assert.equal(system.isNonblocking(fd), true);
  system.setNonblocking(fd, false);
  assert.equal(system.isNonblocking(fd), false);
  system.close(fd);
  assert.equal(system.isOpen(fd), false);
  assert.equal(usage().fds, before.fds);
});

Deno.test("the limit of open files is raised to what is allowed", () => {
  const limit = system.raiseOpenFileLimit();
  const line = /Max open files\s+(\d+)\s+(\d+)/.exec(Deno.readTextFileSync("/proc/self/limits"));
  assert.equal(Number(line?.[1]), limit);
  assert.equal(line?.[1], line?.[2]);
});

Deno.test("string arrays hold what was put in, and an error names a NUL", () => {
  const lists = [["a", "", "übermäßig"], [], ["x".repeat(100_000)]];
  {
    using strings = memory.stringArrays(...lists);
    const read = strings.arrays.map(({ address, count }) => {
      const bytes = memory.read(address, count * 8);
      return [...new BigUint64Array(bytes.buffer)].map((pointer) => memory.readCString(pointer));
    });
    assert.deepEqual(read, [lists[0], [], ["x".repeat(65_536)]]);
  }
  assert.throws(() => memory.stringArrays(["a\0b"]), /NUL/);
  assert.equal(memory.readCString(0n), "");
});

Deno.test("system errors carry the name and the fitting code", () => {
  assert.equal(errnoName(11), "EAGAIN");
  assert.equal(errnoName(2), "ENOENT");
  assert.equal(errnoName(99_999), "errno 99999");
  assert.equal(systemError("cannot open it", 2).code, "NotFound");
  assert.equal(systemError("cannot open it", 24).code, "ResourceExhausted");
  assert.equal(systemError("cannot open it", 5).code, "Internal");
  assert.equal(systemError("cannot open it", 13).message, "cannot open it: EACCES");
});

Deno.test("a mount's root is told from what lies in it", () => {
  assert.equal(system.isMountRoot("/proc"), true);
  assert.equal(system.isMountRoot("/proc/self"), false);
  assert.equal(system.isMountRoot("/nowhere/at/all"), false);
});

Deno.test("another namespace is entered for one action, and left also when that fails", () => {
  const own = "/proc/thread-self/ns/net";
  const before = Deno.readLinkSync(own);
  const fd = system.open(own, OPEN.readOnly, "namespace");
  assert.equal(system.within(fd, CLONE_NEWNET, own, () => 7), 7);
  assert.throws(() =>
    system.within(fd, CLONE_NEWNET, own, () => {
      throw new Error("on purpose");
    }), /on purpose/);
  system.close(fd);
  assert.equal(Deno.readLinkSync(own), before);
  const file = system.open("/etc/passwd", OPEN.readOnly, "file");
  assert.throws(() => system.within(file, CLONE_NEWNET, own, () => 0), /cannot enter a namespace/);
  system.close(file);
});

Deno.test("files in memory, new directories and capabilities", async () => {
  const fd = system.memoryFile("test");
  assert.deepEqual(system.status(fd), { kind: "file", sizeBytes: 0 });
  system.close(fd);
  const path = await Deno.makeTempDir();
  const directory = system.open(path, OPEN.path | OPEN.directory, "directory");
  assert.equal(system.makeDirectoryAt(directory, "new", 0o755), 0);
  assert.equal(system.makeDirectoryAt(directory, "new", 0o755), -17);
  system.close(directory);
  assert.ok((await Deno.stat(`${path}/new`)).isDirectory);
  await Deno.remove(path, { recursive: true });
  const line = /CapEff:\t([0-9a-f]+)/.exec(await Deno.readTextFile("/proc/thread-self/status"));
  assert.equal(system.effectiveCapabilities(), BigInt(`0x${line?.[1]}`));
});
