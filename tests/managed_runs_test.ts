/**
 * Sandboxes that are made through the management API of a real sandboxer, without containerd: streams,
 * logs, other processes, snapshots, restarts, and that nothing is left of them.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import type { AttachRequestSchema } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { type GuestName, GUESTS_BUILD_DIR } from "./guests/build.ts";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { ManagedBed } from "./support/managed_bed.ts";
import { mountsBelow } from "./support/mount_table.ts";
import { quasaur } from "./support/quasaur_command.ts";
import { waitFor } from "./support/wait.ts";

type Request = MessageInitShape<typeof AttachRequestSchema>;

const decoder = new TextDecoder();

/** A client that is attached: all that it gets, and how it ended. */
class Attached {
  readonly #call: ReturnType<ManagementClient["attach"]>;
  #output = "";
  #failure: unknown;
  /** What came from standard output alone. */
  stdout = "";
  /** The exit status; undefined before. */
  status: number | undefined;
  /** Settles with the call; never rejects. */
  readonly over: Promise<void>;

  constructor(client: ManagementClient, first: Request, signal?: AbortSignal) {
    this.#call = client.attach(signal === undefined ? {} : { signal });
    this.over = this.#read(first);
  }

  async #read(first: Request): Promise<void> {
    try {
      await this.#call.send(first);
      for await (const { message } of this.#call) {
        if (message.case === "stdout" || message.case === "stderr") {
          const text = decoder.decode(message.value);
          this.#output += text;
          if (message.case === "stdout") this.stdout += text;
        } else if (message.case === "exit") this.status = message.value.status;
      }
    } catch (error) {
      this.#failure = error;
    }
  }

  /** What has come so far. */
  get output(): string {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#output;
  }

  async say(message: Request): Promise<void> {
    await this.#call.send(message);
  }

  async type(text: string): Promise<void> {
    await this.say({ message: { case: "stdin", value: new TextEncoder().encode(text) } });
  }

  /** Waits until a text has come. */
  async until(text: string): Promise<void> {
    await waitFor(`"${text}"`, () => Promise.resolve(this.output.includes(text)));
  }

  /** Waits for the end; answers the exit status. */
  async end(): Promise<number | undefined> {
    await this.over;
    if (this.#failure !== undefined) throw this.#failure;
    return this.status;
  }
}

function attach(client: ManagementClient, target: string, more: { withLogs?: boolean } = {}) {
  return new Attached(client, { message: { case: "attach", value: { target, ...more } } });
}

async function exec(client: ManagementClient, target: string, args: string[]): Promise<string> {
  const value = { target, process: { args }, inherit: true };
  const attached = new Attached(client, { message: { case: "exec", value } });
  assert.equal(await attached.end(), 0);
  return attached.output;
}

async function logs(
  client: ManagementClient,
  target: string,
  more: { follow?: boolean; tail?: number } = {},
): Promise<string> {
  let text = "";
  for await (const { content, partial } of client.logs({ target, ...more })) {
    text += decoder.decode(content) + (partial ? "" : "\n");
  }
  return text;
}

/** What the command prints. */
async function byCommand(bed: ManagedBed, ...args: readonly string[]): Promise<string> {
  const ended = await quasaur(["--address", bed.sandboxer.paths.socketPath, ...args]);
  assert.equal(ended.code, 0, `quasaur ${args.join(" ")}: ${ended.stderr}`);
  return ended.stdout;
}

/** Nothing is left of any sandbox. */
async function expectNothingLeft(bed: ManagedBed): Promise<void> {
  const names = ["runs", "io", "staging"];
  await waitFor("nothing to be left", async () => {
    const left = await Promise.all(names.map((name) => bed.left(name)));
    return left.flat().length === 0 && (await bed.client.list()).length === 0;
  });
  assert.deepEqual(await mountsBelow(bed.directory), []);
}

/** A directory with some modules. */
async function moduleTemplate(...names: GuestName[]) {
  const path = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "quasaur-modules-" });
  await Promise.all(
    names.map((name) => Deno.copyFile(`${GUESTS_BUILD_DIR}/${name}.wasm`, `${path}/${name}.wasm`)),
  );
  return {
    path,
    source: { case: "templateDirectory", value: path } as const,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

Deno.test("wasm: modules run without containerd", async (t) => {
  await using modules = await moduleTemplate("args", "cat", "lines", "sleep", "fs");
  await using bed = await ManagedBed.start("wasm", { flags: ["--engine-mode=interpreter"] });
  const { client } = bed;
  const rootfs = { source: modules.source };

  await t.step("to their end, with their logs", async () => {
    const run = await client.run({
      name: "args",
      rootfs,
      process: { args: ["/args.wasm", "a b"], env: ["X=1", "EXIT_CODE=3"] },
      labels: { app: "args" },
      image: "docker.io/library/args:latest",
    });
    assert.equal((await client.wait({ target: "args" })).status, 3);
    await waitFor("the log", async () => (await logs(client, "args")).includes("PWD"));
    assert.match(await logs(client, "args"), /^arg \/args.wasm\narg a b\nenv X=1\n/);
    assert.equal(await logs(client, "args", { tail: 1 }), "env PWD=/\n");
    const [sandbox] = await client.list({ labels: { app: "args" } });
    assert.equal(sandbox?.id, run.sandboxId);
    assert.equal(sandbox?.managed, true);
    assert.equal(sandbox?.containers[0]?.image, "docker.io/library/args:latest");
    // The template was not touched.
    assert.ok((await Array.fromAsync(Deno.readDir(modules.path))).length === 5);
    await waitFor("it to be stopped", async () => {
      await client.remove({ target: "args" }).catch(() => undefined);
      return (await client.list()).length === 0;
    });
    await expectNothingLeft(bed);
  });

  await t.step("in the foreground, with all of their output and their input", async () => {
    const process = { args: ["/lines.wasm", "5000"], env: ["ID=x"] };
    await client.run({ name: "lines", rootfs, process, remove: true, startOnAttach: true });
    const lines = attach(client, "lines");
    assert.equal(await lines.end(), 0);
    const out = lines.stdout.trimEnd().split("\n");
    assert.equal(out.length, 5_000);
    assert.ok(out.every((line, i) => line.startsWith(`x out ${i} `)));

    const cat = { args: ["/cat.wasm"] };
    await client.run({ name: "cat", rootfs, process: cat, stdin: true, remove: true });
    const attached = attach(client, "cat");
    await attached.type("hello");
    await attached.until("hello");
    await attached.type(" you");
    await attached.until("hello you");
    await attached.say({ message: { case: "closeStdin", value: {} } });
    assert.equal(await attached.end(), 0);
    await expectNothingLeft(bed);
  });

  await t.step("beside other processes, which end with their client", async () => {
    const process = { args: ["/sleep.wasm"], env: ["A=1"] };
    await client.run({ name: "sleep", rootfs, process });
    assert.match(await exec(client, "sleep", ["/args.wasm", "more"]), /arg more\nenv A=1/);
    const leave = new AbortController();
    const value = { target: "sleep", process: { args: ["/sleep.wasm"] } };
    const other = new Attached(client, { message: { case: "exec", value } }, leave.signal);
    await other.until("sleeping");
    leave.abort();
    await other.over;
    await waitFor("the process to end", async () => {
      const [sandbox] = await client.list();
      return sandbox?.containers[0]?.execs.length === 0;
    });
    await client.stop({ target: "sleep" });
    await client.remove({ target: "sleep" });
    await expectNothingLeft(bed);
  });

  await t.step("not where something is missing, and then nothing is left", async () => {
    const process = { args: ["/missing.wasm"] };
    await assert.rejects(client.run({ name: "bad", rootfs, process }), /missing.wasm/);
    const nowhere = { source: { case: "directory", value: "/var/tmp/nowhere" } as const };
    await assert.rejects(client.run({ name: "bad", rootfs: nowhere, process }), /nowhere/);
    const attaching = { name: "bad", rootfs, process, startOnAttach: true, terminal: true };
    await assert.rejects(
      client.run({ ...attaching, process: { ...process, terminal: true } }),
      { code: "Unimplemented" },
    );
    await assert.rejects(client.snapshot({ target: "x", directory: "/a" }), {
      code: "Unimplemented",
    });
    await expectNothingLeft(bed);
  });

  await t.step("whatever their clients do", async () => {
    const process = { args: ["/cat.wasm"] };
    await client.run({ name: "cat", rootfs, process, stdin: true });
    const wrong: Request[] = [
      {},
      { message: { case: "signal", value: 9 } },
      { message: { case: "attach", value: { target: "../../etc" } } },
      { message: { case: "exec", value: { target: "cat" } } },
      {
        message: {
          case: "exec",
          value: { target: "cat", process: { args: ["x".repeat(1 << 21)] } },
        },
      },
    ];
    for (const first of wrong) await assert.rejects(new Attached(client, first).end());
    // Many come and go, some in the middle of a word.
    await Promise.all(Array.from({ length: 12 }, async (_, i) => {
      const leave = new AbortController();
      const value = { target: "cat", withLogs: true };
      const each = new Attached(client, { message: { case: "attach", value } }, leave.signal);
      await each.type(`${i}\n`).catch(() => undefined);
      leave.abort();
      await each.over;
    }));
    const attached = attach(client, "cat", { withLogs: true });
    await attached.type("still here\n");
    await attached.until("still here\n");
    await client.kill({ target: "cat", signal: 9 });
    assert.equal(await attached.end(), 137);
    await client.remove({ target: "cat", force: true });
    await expectNothingLeft(bed);
  });

  await t.step("and end with their sandboxer, but for their logs", async () => {
    const staged = `${bed.stateDirectory}/staging/mine`;
    await Deno.mkdir(staged);
    await Deno.copyFile(`${modules.path}/sleep.wasm`, `${staged}/sleep.wasm`);
    const process = { args: ["/sleep.wasm"] };
    const own = { source: { case: "stagedDirectory", value: staged } as const };
    await client.run({ name: "gone", rootfs: own, process, remove: true });
    await client.run({ name: "kept", rootfs, process });
    const ended = await client.run({ name: "ended", rootfs, process: { args: ["/args.wasm"] } });
    await waitFor("what has ended to be unmounted", async () => {
      const mounts = await mountsBelow(`${bed.stateDirectory}/runs/${ended.sandboxId}`);
      return mounts.length === 0;
    });
    await client.remove({ target: "ended" });
    await waitFor("the log", async () => (await logs(client, "kept")) === "sleeping\n");
    await bed.sandboxer.process.kill();
    await bed.sandboxer.start();
    await client.ready(5_000);
    await waitFor("one to be removed", async () => (await client.list()).length === 1);
    assert.equal(await logs(client, "kept", { follow: true }), "sleeping\n");
    assert.equal((await client.wait({ target: "kept" })).reason, "lost");
    await client.remove({ target: "kept", force: true });
    // One that is told to leave leaves no mount behind.
    await client.run({ name: "left", rootfs, process });
    assert.notDeepEqual(await mountsBelow(bed.directory), []);
    await bed.sandboxer.process.stop();
    assert.deepEqual(await mountsBelow(bed.directory), []);
    await bed.sandboxer.start();
    await client.ready(5_000);
    assert.equal((await client.wait({ target: "left" })).reason, "lost");
    await client.remove({ target: "left", force: true });
    await expectNothingLeft(bed);
  });
});

/**
 * A shell at a terminal that outlives its sandboxer, of any kind that has Linux containers.
 *
 * @param more What else is tried with it, before its end.
 */
async function shellOutlivesItsSandboxer(
  bed: ManagedBed,
  rootfs: BusyboxRootfs,
  more: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const { client } = bed;
  const source = { case: "templateDirectory", value: rootfs.path } as const;
  await client.run({
    name: "shell",
    rootfs: { source },
    process: { args: ["sh"], env: ["PS1=$ "], terminal: true },
    hostname: "boxy",
    stdin: true,
    remove: true,
    startOnAttach: true,
  });
  const shell = new Attached(client, {
    message: {
      case: "attach",
      value: { target: "shell", terminalSize: { columns: 100, rows: 40 } },
    },
  });
  await shell.type("stty size; hostname; echo made > /file\n");
  await shell.until("40 100\r\n");
  await shell.until("boxy\r\n");
  assert.equal(await exec(client, "shell", ["cat", "/file"]), "made\n");
  // Output of the last moments before a kill may come twice.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await bed.sandboxer.process.kill();
  await assert.rejects(shell.end());
  await bed.sandboxer.start();
  await client.ready(5_000);
  const again = attach(client, "shell", { withLogs: true });
  await again.until("40 100\r\n");
  await again.type("word=known; echo again $((20 + 3))\n");
  await again.until("again 23\r\n");
  await more();
  await again.type("cat /file; exit 5\n");
  assert.equal(await again.end(), 5);
  assert.match(again.output, /made\r\n/);
  await expectNothingLeft(bed);
}

Deno.test("gvisor: a shell runs without containerd, and outlives its sandboxer", async () => {
  await using rootfs = await BusyboxRootfs.make();
  await using bed = await ManagedBed.start("quark", { flags: ["--layer-max=4"] });
  await shellOutlivesItsSandboxer(bed, rootfs, async () => {
    const args = ["sh", "-c", "busybox dd if=/dev/zero of=/big bs=1048576 count=8 2>&1; echo so"];
    assert.match(await exec(bed.client, "shell", args), /No space left on device[^]*so\n$/);
  });
  // What it has written goes with it, and who looks for the reason finds it.
  const log = await bed.sandboxer.process.logTail();
  assert.match(log, /WARN .*written all that it may over its image.*--layer-max/);
});

Deno.test("vmm: a shell runs without containerd, outlives its sandboxer, and is forked", async () => {
  await using rootfs = await BusyboxRootfs.make();
  await using bed = await ManagedBed.start("vmm", { config: "[template]\nenable = false\n" });
  const { client } = bed;
  await shellOutlivesItsSandboxer(bed, rootfs, async () => {
    // By the command, as people do it.
    const directory = `${bed.stateDirectory}/saved`;
    assert.equal(await byCommand(bed, "snapshot", "shell", directory), `${directory}\n`);
    const id = await byCommand(bed, "restore", "--name", "two", "--label", "copy=1", directory);
    const [two] = await client.list({ labels: { copy: "1" } });
    assert.equal(`${two?.id}\n`, id);
    await byCommand(bed, "fork", "--name", "three", "shell");
    for (const name of ["two", "three"]) {
      const shell = attach(client, name);
      // It has the memory of the first, and its own from here on.
      await shell.type("echo $word; cat /file; echo changed > /file; exit 6\n");
      assert.equal(await shell.end(), 6);
      assert.match(shell.output, /known\r\nmade\r\n/);
      await client.remove({ target: name, force: true });
    }
    await Deno.remove(directory, { recursive: true });
  });
});

Deno.test("gvisor: a sandbox is saved and forked without containerd, and copies outlive it", async () => {
  await using rootfs = await BusyboxRootfs.make();
  await using bed = await ManagedBed.start("quark", { config: '[gvisor]\noverlay = "memory"\n' });
  const { client } = bed;
  const source = { case: "templateDirectory", value: rootfs.path } as const;
  const script = "read word; echo made >/file; while read line; do echo $line $word; done; exit 6";
  const process = { args: ["sh", "-c", script] };
  await client.run({ name: "one", rootfs: { source }, process, stdin: true, hostname: "boxy" });
  const one = attach(client, "one");
  await one.type("known\nfirst\n");
  await one.until("first known\n");
  const directory = `${bed.stateDirectory}/snapshots/warm`;
  await client.snapshot({ target: "one", directory });
  await client.restore({ source: { case: "target", value: "one" }, name: "two" });
  await one.type("still\n");
  await one.until("still known\n");
  await client.remove({ target: "one", force: true });
  await client.restore({ source: { case: "directory", value: directory }, name: "three" });
  // Output of the last moments before a kill may come twice.
  await bed.sandboxer.process.kill();
  await bed.sandboxer.start();
  await client.ready(5_000);
  for (const name of ["two", "three"]) {
    assert.equal(await exec(client, name, ["cat", "/file", "/etc/hostname"]), "made\nboxy\n");
    const copy = attach(client, name);
    await copy.type("later\n");
    await copy.until("later known\n");
    await client.kill({ target: name, signal: 9 });
    assert.equal(await copy.end(), 137);
    await client.remove({ target: name, force: true });
  }
  assert.deepEqual(await bed.left("snapshots"), ["warm"]);
  await client.run({ name: "host", rootfs: { source }, process, stdin: true, network: "host" });
  const other = `${bed.stateDirectory}/snapshots/other`;
  await assert.rejects(client.snapshot({ target: "host", directory: other }), {
    code: "FailedPrecondition",
    message: /it has the host's network, which runsc cannot save: choose none$/,
  });
  await client.remove({ target: "host", force: true });
  await expectNothingLeft(bed);
});
