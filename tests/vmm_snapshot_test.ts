import assert from "node:assert/strict";
import { open, type VmmContainer, type VmmSandbox, type VmmSandboxer } from "../mod.ts";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { run } from "./support/command.ts";

/** Counts in its memory, and says more with every count; or the digest of a file. */
const COUNTER = `
n=0
while read word; do
  n=$((n+1))
  case $word in
    count) echo $n $(busybox date +%s) $(busybox head -c 16 /dev/urandom | sha256sum);;
    *) sha256sum $word;;
  esac
done
exit 7`;

/** Talks with a counter. */
class Talk {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor({ stdin, stdout }: VmmContainer) {
    this.#writer = stdin.getWriter();
    this.#reader = stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Says a word. @returns The words of the answer. */
  async say(word: string): Promise<string[]> {
    await this.#writer.write(new TextEncoder().encode(`${word}\n`));
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#reader.read();
      assert.equal(done, false, `it ended after "${this.#text}"`);
      this.#text += value ?? "";
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return line.split(/\s+/);
  }

  async count(): Promise<number> {
    return Number((await this.say("count"))[0]);
  }

  /** Lets it end. */
  async close(): Promise<void> {
    await this.#writer.close();
  }
}

/** A root file system with files that nobody has read yet. */
class Files implements AsyncDisposable {
  private constructor(readonly rootfs: BusyboxRootfs, readonly directory: string) {}

  static async make(): Promise<Files> {
    const rootfs = await BusyboxRootfs.make();
    for (const name of ["first", "second"]) {
      await Deno.writeFile(
        `${rootfs.path}/${name}`,
        crypto.getRandomValues(new Uint8Array(50_000)),
      );
    }
    const directory = await Deno.makeTempDir({ prefix: "quasaur-snapshot-" });
    await Deno.chmod(directory, 0o755);
    return new Files(rootfs, directory);
  }

  async digest(name: string): Promise<string> {
    const bytes = await Deno.readFile(`${this.rootfs.path}/${name}`);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
    await this.rootfs[Symbol.asyncDispose]();
  }
}

async function startCounter(sandbox: VmmSandbox, { rootfs }: Files): Promise<VmmContainer> {
  const command = ["sh", "-c", COUNTER];
  return await sandbox.run({ rootfs: rootfs.path, command, stdin: "piped" });
}

function only(containers: ReadonlyMap<string, VmmContainer>, id: string): VmmContainer {
  assert.deepEqual([...containers.keys()], [id]);
  const container = containers.get(id);
  assert.ok(container !== undefined);
  return container;
}

Deno.test("a snapshot goes on after the original, its images and the snapshot are gone", async () => {
  await using files = await Files.make();
  const warnings: string[] = [];
  await using sandboxer = await open("vmm", { onWarning: (message) => warnings.push(message) });
  const directory = `${files.directory}/warm`;
  let id: string;
  const digests = [await files.digest("first"), await files.digest("second")];
  {
    await using sandbox = await sandboxer.createSandbox();
    await using counter = await startCounter(sandbox, files);
    const talk = new Talk(counter);
    for (const expected of [1, 2, 3]) assert.equal(await talk.count(), expected);
    await sandbox.snapshot(directory);
    assert.equal(await talk.count(), 4, "the original goes on");
    id = counter.id;
    await talk.close();
    assert.equal((await counter.exit).status, 7);
  }
  await files.rootfs[Symbol.asyncDispose]();
  await Deno.mkdir(files.rootfs.directory);

  await using one = await sandboxer.restore(directory);
  await using two = await sandboxer.restore(directory, { id: "two" });
  assert.equal(two.id, "two");
  const talks = [one, two].map(({ containers }) => new Talk(only(containers, id)));
  const answers = await Promise.all(talks.map((talk) => talk.say("count")));
  const randoms = new Set<string | undefined>();
  for (const [count, seconds, random] of answers) {
    assert.equal(count, "4", "each goes on from the same count");
    assert.ok(Math.abs(Number(seconds) * 1000 - Date.now()) < 15_000, `the clock says ${seconds}`);
    randoms.add(random);
  }
  assert.equal(randoms.size, 2, "each has entropy of its own");

  await Deno.remove(directory, { recursive: true });
  for (const [index, talk] of talks.entries()) {
    assert.equal((await talk.say("/first"))[0], digests[0]);
    assert.equal(await talk.count(), 6, `sandbox ${index} counts by itself`);
  }
  // What has been restored can be forked, though neither its original nor its snapshot is there.
  await using three = await one.fork();
  const talk = new Talk(only(three.containers, only(one.containers, id).id));
  assert.equal(await talk.count(), 7);
  assert.equal((await talk.say("/second"))[0], digests[1]);
  const counter = [...three.containers.values()][0];
  await talk.close();
  assert.equal((await counter?.exit)?.status, 7);
  assert.deepEqual(warnings, []);
});

Deno.test("forks go their own ways, and run what is asked of them", async () => {
  await using files = await Files.make();
  const warnings: string[] = [];
  await using sandboxer = await open("vmm", { onWarning: (message) => warnings.push(message) });
  await using sandbox = await sandboxer.createSandbox({ hostname: "box" });
  await using counter = await startCounter(sandbox, files);
  const talk = new Talk(counter);
  await using beside = await counter.exec({ command: ["sleep", "1000"] });
  assert.equal(await talk.count(), 1);
  const forks = [await sandbox.fork(), await sandbox.fork()];
  const talks = [talk, ...forks.map(({ containers }) => new Talk(only(containers, counter.id)))];
  for (const [index, each] of talks.entries()) {
    for (let count = 0; count < index; count++) await each.count();
  }
  const counts = await Promise.all(talks.map((each) => each.count()));
  assert.deepEqual(counts, [2, 3, 4]);

  const [first, second] = forks;
  assert.ok(first !== undefined && second !== undefined);
  const forked = only(first.containers, counter.id);
  assert.notEqual(forked.id, counter.id);
  await using process = await forked.exec({ command: ["hostname"] });
  assert.equal(new TextDecoder().decode((await process.output()).stdout), "box\n");
  // A container whose id is the name that the guest knows the forked one by.
  await using another = await second.run({ rootfs: files.rootfs.path, command: ["cat", "/first"] });
  const bytes = (await another.output()).stdout;
  assert.deepEqual(bytes, new Uint8Array(await Deno.readFile(`${files.rootfs.path}/first`)));
  assert.ok((await forked.stats()).pids >= 2, "what was started beside it goes on too");
  await forked.kill("SIGKILL");
  assert.equal((await forked.exit).status, 137);
  assert.equal(await talks[2]?.count(), 5, "one fork does not see the end of another");
  await first[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
  assert.equal(await talk.count(), 3);
  await beside.kill();
  await talk.close();
  assert.equal((await counter.exit).status, 7);
  assert.deepEqual(warnings, []);
});

/** A sandboxer with a directory of its own, without templates: all that is left can be seen. */
async function openAlone(directory: string): Promise<VmmSandboxer> {
  return await open("vmm", { directory, set: ["template.enable=false"] });
}

/** What a program keeps for sandboxes. */
async function kept(directory: string): Promise<string[]> {
  const { stdout } = await run(["find", directory, "-mindepth", "3", "-not", "-type", "s"]);
  const paths = stdout.split("\n").map((path) => path.slice(directory.length));
  const isOfSandbox = /^\/p-[^/]+\/(?:pods|machines|forks|running|images\/(?:own|readers))\//;
  return paths.filter((path) => isOfSandbox.test(path)).sort();
}

Deno.test("snapshots that cannot be had leave nothing, and the sandbox goes on", async () => {
  await using files = await Files.make();
  const { directory } = files;
  await using stack = new AsyncDisposableStack();
  const full = `${directory}/full`;
  await Deno.mkdir(full);
  await run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", full]);
  stack.defer(async () => void await run(["umount", full]));
  const base = `${directory}/machines`;
  const sandboxer = stack.use(await openAlone(base));
  const sandbox = stack.use(await sandboxer.createSandbox());
  const counter = await startCounter(sandbox, files);
  const talk = new Talk(counter);
  assert.equal(await talk.count(), 1);
  const before = await kept(base);
  assert.ok(before.length > 0);

  await Deno.mkdir(`${directory}/closed/in`, { recursive: true });
  await Deno.chmod(`${directory}/closed`, 0o700);
  const refused = [
    ["there", "AlreadyExists", /there/],
    ["closed/in/snapshot", "PermissionDenied", /cannot pass through ".*\/closed": chmod o\+x/],
    ["missing/snapshot", "NotFound", /missing/],
    ["full/snapshot", "ResourceExhausted", /No space left|no space/i],
  ] as const;
  await Deno.mkdir(`${directory}/there`);
  for (const [name, code, message] of refused) {
    await assert.rejects(sandbox.snapshot(`${directory}/${name}`), { code, message }, name);
  }
  assert.deepEqual(await Array.fromAsync(Deno.readDir(full)), []);
  await counter.pause();
  await assert.rejects(sandbox.snapshot(`${directory}/paused`), {
    code: "FailedPrecondition",
    message: /is paused: resume it first$/,
  });
  await counter.resume();
  const gaveUp = { signal: AbortSignal.abort() };
  await assert.rejects(sandbox.snapshot(`${directory}/gone`, gaveUp), { code: "Cancelled" });
  assert.equal(await talk.count(), 2, "it goes on");

  await sandbox.snapshot(`${directory}/good`);
  const damage = [
    [/state/, () => Deno.truncate(`${directory}/bad/state`, 100_000)],
    [/disk-0/, () => Deno.remove(`${directory}/bad/disk-0`)],
    [/no sandbox\.json/, () => Deno.remove(`${directory}/bad/sandbox.json`)],
    [/machine\.json/, () => Deno.remove(`${directory}/bad/machine.json`)],
    [/cannot read ".*\/state": chgrp it/, () => Deno.chown(`${directory}/bad/state`, 0, 0)],
    [/cannot read ".*\/bad": chgrp it/, () => Deno.chown(`${directory}/bad`, 0, 0)],
  ] as const;
  for (const [message, spoil] of damage) {
    await run(["cp", "-a", "--sparse=always", `${directory}/good`, `${directory}/bad`]);
    await spoil();
    await assert.rejects(sandboxer.restore(`${directory}/bad`), { message }, String(message));
    await Deno.remove(`${directory}/bad`, { recursive: true });
    assert.deepEqual(await kept(base), before, `after ${message}`);
  }
  const restored = await sandboxer.restore(`${directory}/good`);
  assert.equal(await new Talk(only(restored.containers, counter.id)).count(), 3);
  await restored[Symbol.asyncDispose]();
  assert.deepEqual(await kept(base), before);

  const volume = await sandbox.run({
    rootfs: files.rootfs.path,
    command: ["sleep", "1000"],
    mounts: [{ source: `${directory}/there`, destination: "/there", readonly: true }],
  });
  await assert.rejects(sandbox.snapshot(`${directory}/volume`), {
    code: "FailedPrecondition",
    message: /^cannot take a snapshot of sandbox ".*": container ".*" sees ".*\/there" of the host/,
  });
  await volume[Symbol.asyncDispose]();
  assert.equal(await talk.count(), 3);
  await talk.close();
  assert.equal((await counter.exit).status, 7);
  await sandbox[Symbol.asyncDispose]();
  assert.deepEqual(await kept(base), []);
});
