import assert from "node:assert/strict";
import { type GvisorSandboxer, type LinuxContainer, open } from "../mod.ts";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";

async function openGvisor(
  warnings: string[],
  set: readonly string[] = [],
): Promise<GvisorSandboxer> {
  return await open("gvisor", {
    set,
    onWarning: (message, fields) => warnings.push(`${message} ${fields?.["error"] ?? ""}`),
  });
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

Deno.test("a program runs commands over gVisor: streams, processes, signals, stats", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox({ hostname: "box" });
  await using first = await sandbox.run({
    rootfs: rootfs.path,
    command: ["sh", "-c", "read line; echo got $line; exec sleep 1000"],
    stdin: "piped",
  });
  const writer = first.stdin.getWriter();
  await writer.write(new TextEncoder().encode("hello\n"));
  const reader = first.stdout.getReader();
  assert.equal(text((await reader.read()).value ?? new Uint8Array()), "got hello\n");
  {
    await using process = await first.exec({ command: ["sh", "-c", "hostname; exit 4"] });
    const { exit, stdout } = await process.output();
    assert.equal(text(stdout), "box\n");
    assert.equal(exit.status, 4);
  }
  assert.ok((await first.stats()).memoryBytes > 0);
  assert.ok((await sandbox.stats()).memoryBytes > 1 << 20);
  await first.pause();
  await first.resume();
  await using second = await sandbox.run({ rootfs: rootfs.path, command: ["cat", "/proc/1/comm"] });
  assert.equal(text((await second.output()).stdout), "cat\n");
  await first.kill("SIGKILL");
  assert.equal((await first.exit).status, 137);
  assert.deepEqual(warnings, []);
});

Deno.test("a program's processes over gVisor have terminals, with a size that changes", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox();
  const script =
    "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done";
  await using container = await sandbox.run({
    rootfs: rootfs.path,
    command: ["sh", "-c", script],
    terminal: { columns: 91, rows: 33 },
  });
  let seen = "";
  let resized = false;
  for await (const chunk of container.stdout.pipeThrough(new TextDecoderStream())) {
    seen += chunk;
    if (resized || !seen.includes("ready")) continue;
    resized = true;
    await container.resize({ columns: 100, rows: 40 });
  }
  assert.deepEqual(seen.split("\r\n"), ["33 91", "ready", "40 100", ""]);
  assert.equal((await container.exit).status, 0);
  assert.deepEqual(warnings, []);
});

Deno.test("a program over gVisor reads its output to the end, also late, and is told what fails", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox();
  const command = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done"];
  await using container = await sandbox.run({ rootfs: rootfs.path, command });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { stdout, exit } = await container.output();
  assert.equal(exit.status, 0);
  assert.equal(text(stdout).split("\n").at(-2), "line 29999");
  const run = (command: string[]) => sandbox.run({ rootfs: rootfs.path, command });
  await assert.rejects(run(["/nonexistent"]), {
    code: "InvalidArgument",
    message: /"\/nonexistent": no such file/,
  });
  await assert.rejects(sandbox.run({ rootfs: "/etc/hosts", command: ["true"] }), {
    code: "InvalidArgument",
    message: /"\/etc\/hosts": it is no directory/,
  });
  assert.deepEqual(warnings, []);
});

/** A container that answers every line with how many there were, and the files that it has made. */
const COUNTER =
  "n=0; while read word; do n=$((n+1)); echo >/made-$word; echo $n /made-*; done; exit 7";

/** Talks with a {@link COUNTER}. */
class Talk {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;

  constructor({ stdin, stdout }: LinuxContainer) {
    this.#writer = stdin.getWriter();
    this.#reader = stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async say(word: string): Promise<string> {
    await this.#writer.write(new TextEncoder().encode(`${word}\n`));
    let answer = "";
    while (!answer.endsWith("\n")) {
      const { value, done } = await this.#reader.read();
      assert.equal(done, false, `it ended after "${answer}"`);
      answer += value ?? "";
    }
    return answer.trim();
  }

  async close(): Promise<void> {
    await this.#writer.close();
  }
}

Deno.test("a program saves sandboxes of gVisor, and forks them: each goes its own way", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const directory = `${rootfs.directory}/warm`;
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings, ['gvisor.overlay="memory"']);
  const sandbox = await sandboxer.createSandbox({ hostname: "box" });
  const command = ["sh", "-c", COUNTER];
  const counter = await sandbox.run({ rootfs: rootfs.path, command, stdin: "piped" });
  const talk = new Talk(counter);
  assert.equal(await talk.say("a"), "1 /made-a");
  await sandbox.snapshot(directory);
  await using forked = await sandbox.fork();
  assert.equal(await talk.say("b"), "2 /made-a /made-b", "the original goes on");
  await talk.close();
  assert.equal((await counter.exit).status, 7);
  await sandbox[Symbol.asyncDispose]();

  await using restored = await sandboxer.restore(directory, { id: "again" });
  assert.equal(restored.id, "again");
  for (const [each, word] of [[forked, "c"], [restored, "d"]] as const) {
    assert.deepEqual([...each.containers.keys()], [counter.id]);
    const container = each.containers.get(counter.id);
    assert.ok(container !== undefined && container.id !== counter.id);
    const own = new Talk(container);
    assert.equal(await own.say(word), `2 /made-a /made-${word}`);
    await using process = await container.exec({ command: ["hostname"] });
    assert.equal(text((await process.output()).stdout), "box\n");
    await own.close();
    assert.equal((await container.exit).status, 7);
  }
  await using plain = await openGvisor(warnings);
  await assert.rejects(plain.restore(directory), {
    code: "FailedPrecondition",
    message: /gvisor\.overlay is "none" here, and was "memory" where it was taken$/,
  });
  await Deno.truncate(`${directory}/checkpoint.img`, 1_000);
  await assert.rejects(sandboxer.restore(directory), {
    code: "FailedPrecondition",
    message: /^cannot restore container .* brought back: header error: unexpected EOF$/,
  });
  await assert.rejects(sandboxer.restore(rootfs.path), { code: "NotFound" });
  assert.deepEqual(
    await Array.fromAsync(Deno.readDir(`${rootfs.path}/`)).then((all) =>
      all.filter(({ name }) => name.startsWith("made"))
    ),
    [],
  );
  assert.deepEqual(warnings, []);
});
