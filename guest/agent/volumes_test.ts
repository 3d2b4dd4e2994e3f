import assert from "node:assert/strict";
import { AgentError } from "../protocol/agent_error.ts";
import type { VolumeEntry } from "../protocol/messages.ts";
import { type FileCalls, Volumes } from "./volumes.ts";

/** The agent's file calls on this machine's files: `-errno` where the real ones answer that. */
class HostFiles implements FileCalls, Disposable {
  readonly #open = new Map<number, Deno.FsFile>();
  #next = 10;

  #try(action: () => void): number {
    try {
      action();
      return 0;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return -2;
      if (error instanceof Deno.errors.AlreadyExists) return -17;
      const errno = /os error (\d+)/.exec(String(error))?.[1];
      assert.ok(errno !== undefined, String(error));
      return -Number(errno);
    }
  }

  /** How many files are open. */
  get openFiles(): number {
    return this.#open.size;
  }

  chmod = (path: string, mode: number) => this.#try(() => Deno.chmodSync(path, mode));
  lchown = () => 0;
  mkdir = (path: string, mode: number) => this.#try(() => Deno.mkdirSync(path, { mode }));
  mkdirAll = (path: string, mode: number) =>
    this.#try(() => Deno.mkdirSync(path, { mode, recursive: true }));
  removeAll = (path: string) => this.#try(() => Deno.removeSync(path, { recursive: true }));
  rename = (from: string, to: string) => this.#try(() => Deno.renameSync(from, to));
  symlink = (target: string, path: string) => this.#try(() => Deno.symlinkSync(target, path));
  unlink = (path: string) => this.#try(() => Deno.removeSync(path));
  fchown = () => 0;
  decodeBase64 = (text: string) => {
    try {
      return Uint8Array.fromBase64(text).buffer;
    } catch {
      return -22;
    }
  };
  encodeBase64 = (buffer: ArrayBufferLike, offset: number, length: number) =>
    new Uint8Array(buffer, offset, length).toBase64();

  lstat = (path: string) => {
    let found: Deno.FileInfo | undefined;
    const errno = this.#try(() => found = Deno.lstatSync(path));
    if (found === undefined) return errno;
    const { mode, size, ino, dev, uid, gid, nlink } = found;
    const none = { rdevMajor: 0, rdevMinor: 0, mtimeMs: 0 };
    const numbers = { ino: ino ?? 0, uid: uid ?? 0, gid: gid ?? 0, nlink: nlink ?? 0 };
    return { mode: mode ?? 0, size, dev, ...numbers, ...none };
  };

  open = (path: string, flags: number, mode?: number) => {
    const isNew = (flags & 0o300) === 0o300;
    const errno = this.#try(() => {
      const write = (flags & 3) !== 0;
      const truncate = (flags & 0o1000) !== 0;
      const file = Deno.openSync(path, {
        read: !write,
        write,
        truncate,
        createNew: isNew,
        ...(isNew && mode !== undefined ? { mode } : {}),
      });
      this.#open.set(this.#next, file);
    });
    return errno < 0 ? errno : this.#next++;
  };

  #file(fd: number): Deno.FsFile {
    const file = this.#open.get(fd);
    assert.ok(file !== undefined, `descriptor ${fd} is not open`);
    return file;
  }

  close = (fd: number) => {
    this.#file(fd).close();
    this.#open.delete(fd);
    return 0;
  };
  fchmod = (fd: number, mode: number) => this.chmod(`/proc/self/fd/${this.#fdOf(fd)}`, mode);
  pread = (
    fd: number,
    buffer: ArrayBufferLike,
    offset: number,
    length: number,
    position: number,
  ) => {
    this.#file(fd).seekSync(position, Deno.SeekMode.Start);
    return this.#file(fd).readSync(new Uint8Array(buffer, offset, length)) ?? 0;
  };
  write = (fd: number, buffer: ArrayBufferLike, offset: number, length: number) =>
    this.#file(fd).writeSync(new Uint8Array(buffer, offset, length));

  /** The process's own descriptor of a file that was opened here, by its inode. */
  #fdOf(fd: number): string {
    const { ino, dev } = this.#file(fd).statSync();
    for (const { name } of Deno.readDirSync("/proc/self/fd")) {
      try {
        const stat = Deno.statSync(`/proc/self/fd/${name}`);
        if (stat.ino === ino && stat.dev === dev) return name;
      } catch {
        // The listing's own.
      }
    }
    throw new Error("no such descriptor");
  }

  [Symbol.dispose](): void {
    for (const file of this.#open.values()) file.close();
  }
}

/** Volumes in a directory of their own. */
function makeVolumes() {
  const root = Deno.makeTempDirSync({ prefix: "quasaur-volumes-" });
  const files = new HostFiles();
  const volumes = new Volumes(`${root}/volumes`, files);
  return {
    files,
    volumes,
    sync: (entries: readonly VolumeEntry[]) => volumes.sync("v", entries),
    text: (path: string) => Deno.readTextFileSync(`${root}/volumes/v/${path}`),
    path: (path: string) => `${root}/volumes/v/${path}`,
    staged: () => [...Deno.readDirSync(`${root}/volumes/.incoming`)].length,
    [Symbol.dispose]: () => {
      files[Symbol.dispose]();
      Deno.removeSync(root, { recursive: true });
    },
  };
}

function file(path: string, content: string, changes: Partial<VolumeEntry> = {}): VolumeEntry {
  const data = btoa(content);
  const entry = { kind: "file", path, mode: 0o640, uid: 0, gid: 0, data, offset: 0, last: true };
  return { ...entry, ...changes } as VolumeEntry;
}

function refusal(code: string, message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof AgentError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

Deno.test("files, directories and links are made as they were sent", () => {
  using made = makeVolumes();
  made.sync([
    file("deep/er/file", "content"),
    { kind: "directory", path: "dir", mode: 0o750, uid: 0, gid: 0 },
    { kind: "link", path: "link", target: "deep/er" },
  ]);
  assert.equal(made.text("deep/er/file"), "content");
  assert.equal(made.text("link/file"), "content");
  assert.equal((Deno.statSync(made.path("deep/er/file")).mode ?? 0) & 0o7777, 0o640);
  assert.equal((Deno.statSync(made.path("dir")).mode ?? 0) & 0o7777, 0o750);
  assert.deepEqual([made.files.openFiles, made.staged()], [0, 0]);
});

Deno.test("a long file takes the old one's place when it is whole", () => {
  using made = makeVolumes();
  made.sync([file("f", "old")]);
  made.sync([file("f", "first ", { last: false })]);
  assert.equal(made.text("f"), "old");
  made.sync([file("f", "second", { offset: 6 })]);
  assert.equal(made.text("f"), "first second");
  assert.deepEqual([made.files.openFiles, made.staged()], [0, 0]);
});

Deno.test("parts that do not fit are refused and forgotten", () => {
  using made = makeVolumes();
  made.sync([file("f", "1234", { last: false })]);
  assert.throws(
    () => made.sync([file("f", "x", { offset: 9 })]),
    refusal("InvalidArgument", /at 9: 4 bytes have come/),
  );
  assert.throws(
    () => made.sync([file("f", "x", { offset: 4 })]),
    refusal("InvalidArgument", /0 bytes/),
  );
  assert.throws(
    () => made.sync([file("g", "", { data: "%" })]),
    refusal("InvalidArgument", /"[^"]*g"/),
  );
  assert.deepEqual([made.files.openFiles, made.staged()], [0, 0]);
});

Deno.test("only so many files may be on their way", () => {
  using made = makeVolumes();
  const begin = (count: number) => made.sync([file(`f${count}`, "x", { last: false })]);
  for (let count = 0; count < 64; count++) begin(count);
  assert.throws(() => begin(64), refusal("ResourceExhausted", /64 files/));
});

Deno.test("kubelet's switch of a link shows all of the new files", () => {
  using made = makeVolumes();
  made.sync([
    file("..1/a", "one"),
    { kind: "link", path: "..data", target: "..1" },
    { kind: "link", path: "a", target: "..data/a" },
  ]);
  assert.equal(made.text("a"), "one");
  made.sync([file("..2/a", "two"), { kind: "link", path: "..data", target: "..2" }]);
  made.sync([{ kind: "gone", path: "..1" }, { kind: "gone", path: "never-there" }]);
  assert.equal(made.text("a"), "two");
  assert.deepEqual([...Deno.readDirSync(made.path(""))].map(({ name }) => name).sort(), [
    "..2",
    "..data",
    "a",
  ]);
});

Deno.test("one kind of file takes the place of another", () => {
  using made = makeVolumes();
  made.sync([file("x/y", "1"), file("z", "2")]);
  made.sync([file("x", "now a file"), {
    kind: "directory",
    path: "z",
    mode: 0o755,
    uid: 0,
    gid: 0,
  }]);
  assert.equal(made.text("x"), "now a file");
  assert.ok(Deno.statSync(made.path("z")).isDirectory);
  made.sync([{ kind: "link", path: "z", target: "x" }]);
  assert.equal(made.text("z"), "now a file");
});

Deno.test("a file that is mounted by itself is written in place, others are replaced", () => {
  using made = makeVolumes();
  made.sync([file("mounted", "old and longer"), file("other", "old")]);
  assert.equal(made.volumes.source("v", "mounted"), made.path("mounted"));
  const before = ["mounted", "other"].map((name) => Deno.statSync(made.path(name)).ino);
  made.sync([file("mounted", "new", { mode: 0o600 }), file("other", "new")]);
  const after = ["mounted", "other"].map((name) => Deno.statSync(made.path(name)).ino);
  assert.deepEqual([made.text("mounted"), made.text("other")], ["new", "new"]);
  assert.equal(before[0], after[0]);
  assert.notEqual(before[1], after[1]);
  assert.equal((Deno.statSync(made.path("mounted")).mode ?? 0) & 0o7777, 0o600);
  assert.equal(made.files.openFiles, 0);
});

Deno.test("files are read in pieces", () => {
  using made = makeVolumes();
  made.sync([file("f", "0123456789"), { kind: "link", path: "l", target: "f" }]);
  assert.deepEqual(made.volumes.read("v", "f", 4, 3), { data: btoa("456"), sizeBytes: 10 });
  assert.deepEqual(made.volumes.read("v", "f", 8, 100), { data: btoa("89"), sizeBytes: 10 });
  assert.deepEqual(made.volumes.read("v", "f", 50, 1), { data: "", sizeBytes: 10 });
  for (const path of ["l", "", "none"]) {
    assert.throws(() => made.volumes.read("v", path, 0, 1), refusal("NotFound", /no such file/));
  }
  assert.equal(made.files.openFiles, 0);
});

Deno.test("nothing leaves a volume", () => {
  using made = makeVolumes();
  made.sync([{ kind: "link", path: "out", target: "/tmp" }]);
  for (const path of ["../x", "a/../../x", "..", "", "a\0b"]) {
    assert.throws(
      () => made.sync([file(path, "")]),
      refusal("InvalidArgument", /path below it/),
      path,
    );
  }
  assert.throws(
    () => made.sync([file("out/x", "")]),
    refusal("InvalidArgument", /not a directory/),
  );
  for (const name of ["..", ".incoming", "a/b", ""]) {
    assert.throws(
      () => made.volumes.sync(name, []),
      refusal("InvalidArgument", /name of a volume/),
      name,
    );
  }
  assert.throws(() => made.volumes.source("v", "none"), refusal("NotFound", /was not sent/));
});
