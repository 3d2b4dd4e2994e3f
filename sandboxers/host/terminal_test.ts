import assert from "node:assert/strict";
import type { StdioSpec } from "../lifecycle/spec.ts";
import { noLog } from "../log.ts";
import { HandedStdio } from "./handed_stdio.ts";
import { Terminal } from "./terminal.ts";
import { assertFails, launcher, until } from "./testing/fixture.ts";
import { consoleProgram, Directory, feed, Reader } from "./testing/streams.ts";

/** A terminal with a client, and a program to run in it. */
class Fixture implements AsyncDisposable {
  readonly #children: Deno.ChildProcess[] = [];

  private constructor(
    readonly place: Directory,
    readonly program: string,
    readonly input: string,
    readonly out: Reader,
    readonly spec: StdioSpec,
    readonly options: Parameters<typeof HandedStdio.open>[1],
    readonly handed: HandedStdio,
  ) {}

  static async make(): Promise<Fixture> {
    const place = await Directory.make();
    const [input, output] = [await place.fifo(), await place.fifo()];
    const spec: StdioSpec = {
      stdin: { kind: "path", path: input },
      stdout: { kind: "path", path: output },
      stderr: { kind: "null" },
      terminal: true,
      terminalSize: { columns: 101, rows: 33 },
    };
    const [directory, socketDirectory] = [await place.directory(), place.path];
    const options = { launcher, directory, socketDirectory, label: 'exec "a"', log: noLog };
    const program = await consoleProgram();
    const out = new Reader(output);
    const handed = await HandedStdio.open(spec, options);
    return new Fixture(place, program, input, out, spec, options, handed);
  }

  /** Runs a shell in the terminal; without a script, sends what is no terminal. */
  shell(script?: string): Deno.ChildProcess {
    const { consoleSocket = "" } = this.handed;
    const command = script === undefined ? [""] : ["sh", "-c", script];
    const child = new Deno.Command(this.program, { args: [consoleSocket, ...command] }).spawn();
    this.#children.push(child);
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handed[Symbol.asyncDispose]();
    for (const child of this.#children) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await child.status;
    }
    this.out[Symbol.dispose]();
    await this.place[Symbol.asyncDispose]();
  }
}

Deno.test("terminal: a program has one, of the size asked for, and its client's streams", async () => {
  await using fixture = await Fixture.make();
  const { handed, input, out } = fixture;
  assert.deepEqual(handed.descriptors, ["-", "-", "-"]);
  const child = fixture.shell("test -t 0 && test -t 2 && stty size; read x; echo got $x; exit 3");
  await out.until(/33 101\r\n/);
  await feed(input, "hello\n");
  assert.equal((await child.status).code, 3);
  await handed.finished("exited");
  assert.equal(await out.rest(), "33 101\r\nhello\r\ngot hello\r\n");
  assert.deepEqual(await Array.fromAsync(Deno.readDir(fixture.options.directory)), []);
});

Deno.test("terminal: it is resized, and the program hears of it", async () => {
  await using fixture = await Fixture.make();
  const { handed, out, input } = fixture;
  fixture.shell("trap 'stty size' WINCH; echo ready; while :; do read x && exit; done");
  await out.until(/ready/);
  await handed.resize(55, 44);
  await out.until(/44 55\r\n/);
  await assertFails(handed.resize(-1, 44), "InvalidArgument", /expected 0 to 65535/);
  await feed(input, "\n");
  await handed.finished("exited");
  // After its end there is nothing to do.
  await handed.resize(10, 10);
});

Deno.test("terminal: it outlives its sandboxer, and the next one takes it over", async () => {
  await using fixture = await Fixture.make();
  const { handed, out, input, spec, options } = fixture;
  const child = fixture.shell("echo ready; read x; stty size; exit 6");
  await out.until(/ready/);
  const record = JSON.parse(JSON.stringify(handed.record));
  await using later = HandedStdio.adopt(spec, record, options);
  await later.resize(20, 10);
  await feed(input, "\n");
  assert.equal((await child.status).code, 6);
  await later.finished("exited");
  assert.match(await out.rest(), /10 20\r\n$/);
});

Deno.test("terminal: all output reaches a reader that is slow", async () => {
  await using fixture = await Fixture.make();
  const { handed, out } = fixture;
  const child = fixture.shell(
    "stty -opost; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end",
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  const text = await out.until(/end\n/);
  assert.equal(text.length, 300_005);
  assert.ok((await child.status).success);
  await handed.finished("exited");
});

Deno.test("terminal: an end of its input is not the program's", async () => {
  await using fixture = await Fixture.make();
  const { handed, out, input } = fixture;
  const child = fixture.shell("read x; echo got $x; sleep 0.1; echo on");
  const client = await Deno.open(input, { write: true });
  await handed.closeStdin();
  await client.write(new TextEncoder().encode("last\n"));
  client.close();
  assert.ok((await child.status).success);
  await handed.finished("exited");
  assert.match(await out.rest(), /got last\r\non\r\n$/);
});

Deno.test("terminal: a process that others outlive does not keep its terminal open", async () => {
  await using fixture = await Fixture.make();
  const { handed, out } = fixture;
  // Whoever has it open hears of the end as of a terminal that hangs up.
  const child = fixture.shell("trap '' HUP; (sleep 600 & echo $!); echo last");
  const [pid] = /^\d+/.exec(await out.until(/last\r\n/)) ?? [];
  assert.ok((await child.status).success);
  await handed.finished("exited");
  assert.match(await out.rest(), /^\d+\r\nlast\r\n$/);
  Deno.kill(Number(pid), "SIGKILL");
});

Deno.test("terminal: what is no terminal is not taken for one", async () => {
  await using fixture = await Fixture.make();
  const { handed, out } = fixture;
  assert.ok((await fixture.shell().status).success);
  assert.ok((await fixture.shell("echo here").status).success);
  await handed.finished("exited");
  assert.equal(await out.rest(), "here\r\n");
});

Deno.test("terminal: one that is given up leaves nothing", async () => {
  await using place = await Directory.make();
  const [socket, control] = [place.file(), place.file()];
  const files = { socket, control, stdin: undefined, stdout: undefined };
  const terminal = await Terminal.start(launcher, files);
  await using _terminal = { [Symbol.asyncDispose]: () => terminal.stop() };
  assert.ok(terminal.isOpen);
  await assertFails(Terminal.start(launcher, files), "AlreadyExists", /cannot make the FIFO/);
  await terminal.stop();
  assert.ok(!terminal.isOpen);
  await until("its end", async () => !await launcher.alive(terminal.identity));
  const long = { ...files, socket: `/${"x".repeat(107)}` };
  await assertFails(Terminal.start(launcher, long), "InvalidArgument", /at most 107 bytes/);
  const gone = { ...files, control: place.file(), stdout: place.file() };
  await assertFails(Terminal.start(launcher, gone), "NotFound", /cannot open stdout/);
});
