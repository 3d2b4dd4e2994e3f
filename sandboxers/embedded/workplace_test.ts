import assert from "node:assert/strict";
import { openWorkplace, userDirectory, type Workplace } from "./workplace.ts";
import { vmmChecks } from "./vmm_run_checks.ts";

const UID = Deno.uid() ?? 0;

async function withDirectory(test: (base: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir({ prefix: "quasaur-place-test-" });
  try {
    await test(`${parent}/base`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

function openPlace(base: string, removed: string[] = []): Promise<Workplace> {
  return openWorkplace(base, UID, async (left) => {
    removed.push(left);
    await Deno.remove(left, { recursive: true });
  });
}

Deno.test("every program has a directory of its own, which goes with it", async () => {
  await withDirectory(async (base) => {
    {
      await using one = await openPlace(base);
      await using two = await openPlace(base);
      assert.notEqual(one.directory, two.directory);
      assert.ok((await Deno.stat(one.directory)).isDirectory);
      assert.equal(one.sharedDirectory, two.sharedDirectory);
      await Deno.writeTextFile(`${one.directory}/left`, "");
    }
    const names = (await Array.fromAsync(Deno.readDir(base))).map(({ name }) => name);
    assert.deepEqual(names.filter((name) => name.startsWith("p-")), []);
  });
});

Deno.test("what a killed program left is removed by the next, and nothing else", async () => {
  await withDirectory(async (base) => {
    await using running = await openPlace(base);
    await Deno.mkdir(`${base}/p-dead`);
    await Deno.writeTextFile(`${base}/p-dead.lock`, "");
    await Deno.mkdir(`${base}/templates`);
    const removed: string[] = [];
    await using _next = await openPlace(base, removed);
    assert.deepEqual(removed, [`${base}/p-dead`]);
    assert.ok((await Deno.stat(running.directory)).isDirectory);
    assert.ok((await Deno.stat(`${base}/templates`)).isDirectory);
    await assert.rejects(Deno.stat(`${base}/p-dead.lock`), Deno.errors.NotFound);
  });
});

Deno.test("a directory that others can write to, or that is a link, is refused", async () => {
  await withDirectory(async (base) => {
    await Deno.mkdir(base);
    await Deno.chmod(base, 0o777);
    await assert.rejects(openPlace(base), { code: "PermissionDenied", message: /nobody else/ });
    await Deno.remove(base);
    await Deno.symlink("/tmp", base);
    await assert.rejects(openPlace(base), { name: "SandboxError" });
  });
  await withDirectory(async (base) => {
    await Deno.mkdir(base, { mode: 0o711 });
    const other = openWorkplace(base, UID + 1, () => Promise.resolve());
    await assert.rejects(other, { code: "PermissionDenied" });
  });
});

Deno.test("programs start machines one after the other, and the parts of one together", async () => {
  await withDirectory(async (base) => {
    await using one = await openPlace(base);
    await using two = await openPlace(base);
    const { signal } = new AbortController();
    const log: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = one.alone(async () => {
      log.push("one");
      await gate.promise;
      log.push("one ends");
    }, signal);
    await one.alone(() => Promise.resolve(void log.push("one too")), signal);
    const second = two.alone(() => Promise.resolve(void log.push("two")), signal);
    const abort = new AbortController();
    const third = two.alone(() => Promise.resolve(void log.push("never")), abort.signal);
    abort.abort();
    await assert.rejects(third, { code: "Cancelled" });
    gate.resolve();
    await Promise.all([first, second]);
    assert.deepEqual(log, ["one", "one too", "one ends", "two"]);
  });
});

Deno.test("sockets below the directory are reached through the gate", async () => {
  await withDirectory(async (base) => {
    await using place = await openPlace(base);
    const path = `${place.directory}/a.sock`;
    using listener = Deno.listen({ transport: "unix", path });
    const accepted = listener.accept();
    using connection = await place.connect(path);
    using other = await accepted;
    await connection.write(new Uint8Array([1]));
    assert.equal(await other.read(new Uint8Array(1)), 1);
  });
});

Deno.test("each user has a directory", () => {
  assert.equal(userDirectory(0), "/run/quasaur/cli");
  assert.equal(userDirectory(1000), "/tmp/quasaur-1000");
});

Deno.test("an image that machines cannot read is refused with what to do", async () => {
  await withDirectory(async (base) => {
    await Deno.mkdir(base);
    const image = `${base}/a.erofs`;
    await Deno.writeTextFile(image, "");
    await Deno.chmod(image, 0o600);
    const { run } = vmmChecks({ uid: 0, separate: true });
    const options = { command: ["a"], image };
    // Directories for tests are their user's alone.
    await assert.rejects(run(options), { code: "PermissionDenied", message: /chmod o\+x/ });
    await Deno.chmod(base.slice(0, base.lastIndexOf("/")), 0o711);
    await Deno.chmod(base, 0o711);
    await assert.rejects(run(options), {
      code: "PermissionDenied",
      message: /chmod o\+r ".*a.erofs"/,
    });
    await Deno.chmod(image, 0o604);
    await run(options);
    await assert.rejects(run({ ...options, image: `${image}x` }), { code: "NotFound" });
    await Deno.chmod(image, 0o600);
    await vmmChecks({ uid: 0, separate: false }).run(options);
  });
});

Deno.test("who is not root cannot show files of the host, and is told so", async () => {
  const { run, sandbox } = vmmChecks({ uid: 1000, separate: false });
  const mounts = [{ source: "/a", destination: "/a" }];
  await assert.rejects(run({ command: ["a"], mounts }), {
    code: "FailedPrecondition",
    message: /takes root/,
  });
  assert.throws(() => sandbox({ sharedTree: true }), { code: "FailedPrecondition" });
  sandbox({});
  await run({ command: ["a"] });
});
