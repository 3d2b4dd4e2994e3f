import assert from "node:assert/strict";
import { noLog } from "../log.ts";
import { FifoSink, FifoSource } from "./fifo.ts";
import { FifoHolder } from "./fifo_holder.ts";
import { Launcher } from "./launcher.ts";
import { buildHostLauncher } from "./native/build.ts";

let built: Promise<Launcher> | undefined;

/** The launcher, built once for all tests here. */
function launcher(): Promise<Launcher> {
  built ??= (async () => {
    const outDir = await Deno.makeTempDir({ prefix: "quasaur-launcher-" });
    addEventListener("unload", () => Deno.removeSync(outDir, { recursive: true }));
    return new Launcher(await buildHostLauncher({ outDir }));
  })();
  return built;
}

/** A directory with FIFOs and a launcher. */
class Place implements AsyncDisposable {
  readonly #holders: FifoHolder[] = [];

  private constructor(readonly dir: string, readonly launcher: Launcher) {}

  static async make(): Promise<Place> {
    const dir = await Deno.makeTempDir({ prefix: "quasaur-holder-" });
    return new Place(dir, await launcher());
  }

  async holder(): Promise<FifoHolder> {
    const holder = await FifoHolder.start({ launcher: this.launcher, dir: this.dir, log: noLog });
    this.#holders.push(holder);
    return holder;
  }

  fifo(name: string): string {
    const path = `${this.dir}/${name}`;
    assert.ok(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
    return path;
  }

  /** The FIFOs that are open in the process of the note, in the order of descriptors. */
  held(): string[] {
    const [first] = this.noted();
    return first === undefined ? [] : openFifos(first.pid);
  }

  noted(): { readonly pid: number; readonly startTime: number }[] {
    return JSON.parse(Deno.readTextFileSync(`${this.dir}/fifo-holder.json`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const holder of this.#holders) await holder.stop();
    await Deno.remove(this.dir, { recursive: true });
  }
}

function openFifos(pid: number): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    const target = linkTarget(`/proc/${pid}/fd/${name}`);
    if (target.startsWith("/") && target !== "/dev/null") found.push(target.replace(/.*\//, ""));
  }
  return found.sort();
}

/** Where a link leads; empty where it has gone. */
function linkTarget(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return "";
  }
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !what(); i++) await new Promise((done) => setTimeout(done, 10));
  assert.ok(what());
}

Deno.test("FIFO holder: holds ends that live for a while, and lets them go", async () => {
  await using place = await Place.make();
  const holder = await place.holder();
  const [out, inn] = [place.fifo("out"), place.fifo("in")];
  using reader = new FifoSource(out, "the reader");
  const sink = new FifoSink(out, "stdout", holder);
  const source = new FifoSource(inn, "stdin", holder);
  await until(() => place.held().join() === "in,out");
  await sink.close();
  source[Symbol.dispose]();
  await until(() => place.held().length === 0);
  reader.letEnd();
  assert.equal(await reader.read(new Uint8Array(1)), 0);
});

Deno.test("FIFO holder: takes no nonsense", async () => {
  await using place = await Place.make();
  const holder = await place.holder();
  const out = place.fifo("out");
  using _reader = new FifoSource(out, "the reader");
  await Deno.writeTextFile(`${place.dir}/file`, "");
  for (
    const path of ["relative", `${place.dir}/missing`, `${place.dir}/file`, `${out}\n+w ${out}`]
  ) {
    holder.hold(path, "write");
  }
  holder.hold(`/${"x".repeat(10_000)}`, "write");
  holder.letGo(out, "write");
  holder.hold(out, "read");
  await until(() => place.held().length > 0);
  assert.deepEqual(place.held(), ["out"]);
});

Deno.test("FIFO holder: what was just opened is held when its sandboxer leaves", async () => {
  await using place = await Place.make();
  const holder = await place.holder();
  const out = place.fifo("out");
  using _reader = new FifoSource(out, "the reader");
  const sink = new FifoSink(out, "stdout", holder);
  const gone = new FifoSink(place.fifo("gone"), "stdout", holder);
  gone[Symbol.dispose]();
  await holder.release();
  await sink.close();
  await until(() => place.held().length > 0);
  assert.deepEqual(place.held(), ["out"]);
});

Deno.test("FIFO holder: outlives its sandboxer for as long as somebody reads", async () => {
  await using place = await Place.make();
  const out = place.fifo("out");
  const reader = new FifoSource(out, "the reader");
  reader.letEnd();
  // A sandboxer that holds a FIFO and is killed.
  const program = `
    import { FifoHolder } from ${JSON.stringify(import.meta.resolve("./fifo_holder.ts"))};
    import { FifoSink } from ${JSON.stringify(import.meta.resolve("./fifo.ts"))};
    import { Launcher } from ${JSON.stringify(import.meta.resolve("./launcher.ts"))};
    import { noLog } from ${JSON.stringify(import.meta.resolve("../log.ts"))};
    const [path, dir, out] = Deno.args;
    const holder = await FifoHolder.start({ launcher: new Launcher(path), dir, log: noLog });
    const sink = new FifoSink(out, "stdout", holder);
    await sink.write(new TextEncoder().encode("one "));
    setInterval(() => {}, 1000);
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "-q", "--ext=ts", "-", place.launcher.path, place.dir, out],
    stdin: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  await until(() => {
    try {
      return place.held().join() === "out";
    } catch {
      return false;
    }
  });
  child.kill("SIGKILL");
  await child.status;
  const buffer = new Uint8Array(100);
  assert.equal(await reader.read(buffer), 4);
  // No end: the next sandboxer goes on.
  const next = await place.holder();
  const sink = new FifoSink(out, "stdout", next);
  await sink.write(new TextEncoder().encode("two"));
  const [earlier] = place.noted();
  await next.tookOver();
  assert.equal(place.noted().length, 1);
  assert.ok(earlier);
  await until(() => !isRunning(earlier.pid));
  assert.equal(await reader.read(buffer), 3);
  await sink.close();
  assert.ok([0, null].includes(await reader.read(buffer)));
  reader[Symbol.dispose]();
});

Deno.test("FIFO holder: ends by itself when it is alone and nobody reads any more", async () => {
  await using place = await Place.make();
  const out = place.fifo("out");
  const reader = new FifoSource(out, "the reader");
  const child = new Deno.Command(place.launcher.path, {
    args: ["fifos"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  assert.match(await new Response(child.stdout).text(), /^started \d+\n$/);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`+w ${out}\n`));
  await until(() => openFifos(child.pid).length === 1);
  await writer.close();
  reader.letEnd();
  // It holds the FIFO still, so there is no end.
  const reading = reader.read(new Uint8Array(1));
  assert.ok(reading instanceof Promise);
  reader[Symbol.dispose]();
  assert.equal((await child.status).code, 0);
});

/** Somebody who is asked at a socket, and answers once he is let. */
class Asked implements Disposable {
  readonly #listener: Deno.Listener;

  constructor(readonly socket: string) {
    this.#listener = Deno.listen({ transport: "unix", path: socket });
  }

  /** Takes a question to its end. */
  async take(): Promise<{ readonly text: string; readonly connection: Deno.Conn }> {
    const connection = await this.#listener.accept();
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(100);
    let text = "";
    for (let count = await connection.read(buffer); count !== null;) {
      text += decoder.decode(buffer.subarray(0, count));
      count = await connection.read(buffer);
    }
    return { text, connection };
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

async function answer(connection: Deno.Conn, text: string): Promise<void> {
  await connection.write(new TextEncoder().encode(text));
  connection.close();
}

/** The text of a file; empty where it is not there. */
function textOf(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}

Deno.test("FIFO holder: keeps questions, and writes answers down once nobody else hears them", async () => {
  await using place = await Place.make();
  using asked = new Asked(`${place.dir}/socket`);
  const child = new Deno.Command(place.launcher.path, {
    args: ["fifos"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  assert.match(await new Response(child.stdout).text(), /^started \d+\n$/);
  const writer = child.stdin.getWriter();
  const say = (command: string) => writer.write(new TextEncoder().encode(`${command}\n`));
  const file = (name: string) => `${place.dir}/${name}`;
  const ask = async (name: string) => {
    await say(`+a ${file(name)}\t${asked.socket}\tquestion ${name}`);
    const { text, connection } = await asked.take();
    assert.equal(text, `question ${name}`);
    return connection;
  };
  // What cannot be asked is left out.
  await say(`+a ${file("0")}\t${file("nobody")}\tquestion`);
  await say(`+a ${file("0")}\t${asked.socket}`);
  const [early, late, dead, forgotten] = [
    await ask("early"),
    await ask("late"),
    await ask("dead"),
    await ask("forgotten"),
  ];
  await say(`=a ${file("early")}`);
  await answer(early, "early answer");
  await until(() => {
    void say(`=a ${file("early")}`);
    return textOf(file("early")) === "early answer";
  });
  await say(`-a ${file("forgotten")}`);
  await answer(late, "late answer");
  await writer.close();
  await until(() => textOf(file("late")) === "late answer");
  dead.close();
  await answer(forgotten, "unheard").catch(() => undefined);
  assert.equal((await child.status).code, 0);
  assert.deepEqual(["0", "dead", "forgotten"].map((name) => textOf(file(name))), ["", "", ""]);
});

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}
