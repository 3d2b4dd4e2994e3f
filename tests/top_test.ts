/**
 * `quasaur top` in a real terminal, over real sandboxers with pods of theirs: what it shows, what its
 * keys do, and that the terminal is as it was before, however it ends.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RunRequestSchema } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { ManagementClient } from "../sandboxers/client/management_client.ts";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { ClientProgram } from "./support/client_program.ts";
import { run } from "./support/command.ts";
import { Tmux } from "./support/tmux.ts";

const KINDS = ["wasm", "quark"];

const test = bedTests({ kinds: KINDS });

/** What a container of busybox runs. */
const TICK = "while :; do echo tick $((n += 1)); sleep 1; done";

/** A bed's pods, made without containerd, and the command for them. */
class Pods implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #bed: Bed;

  constructor(bed: Bed) {
    this.#bed = bed;
  }

  /** Runs a pod of WebAssembly. */
  async wasm(name: string, guest: "sleep" | "spin"): Promise<void> {
    await this.#run("wasm", {
      name,
      rootfs: { source: { case: "directory", value: GUESTS_BUILD_DIR } },
      process: { args: [`/${guest}.wasm`] },
    });
  }

  /** Runs a pod of gVisor. */
  async gvisor(name: string): Promise<void> {
    const rootfs = this.#stack.use(await BusyboxRootfs.make());
    await this.#run("quark", {
      name,
      rootfs: { source: { case: "templateDirectory", value: rootfs.path } },
      process: { args: ["/bin/sh", "-c", TICK], env: ["PATH=/bin"] },
    });
  }

  async #run(kind: string, request: MessageInitShape<typeof RunRequestSchema>): Promise<void> {
    const client = this.client(kind);
    const { sandboxId } = await client.run({ image: "test/image", ...request });
    this.#stack.defer(() => client.remove({ target: sandboxId, force: true }).then(() => {}));
  }

  /** A client of a sandboxer. */
  client(kind: string): ManagementClient {
    return this.#stack.use(
      new ManagementClient(this.#bed.sandboxer(kind).paths.socketPath),
    );
  }

  /** A terminal of 80x24 in which `quasaur` can be called. */
  async terminal(): Promise<Terminal> {
    const { paths } = this.#bed.sandboxer("wasm");
    const addresses = KINDS.map((kind) => this.#bed.sandboxer(kind).paths.socketPath);
    const program = this.#stack.use(await ClientProgram.make(paths.runDirectory, addresses));
    const path = `${program.directory}:${Deno.env.get("PATH") ?? "/usr/bin:/bin"}`;
    const tmux = this.#stack.use(await Tmux.open({ env: { PATH: path } }));
    return { tmux, program };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

interface Terminal {
  readonly tmux: Tmux;
  readonly program: ClientProgram;
}

/** Starts top and waits until it has drawn a pod. */
async function startTop({ tmux }: Terminal, pod: string, args = ""): Promise<string> {
  await tmux.type(
    `tty() { echo tty $(stty -g | cksum); }; tty; quasaur top --interval 250ms ${args}; ` +
      `echo "ended with $?"; tty`,
  );
  await tmux.press("Enter");
  return await tmux.shows(pod);
}

/** Expects that top has ended, and that the terminal is as it was. */
async function expectLeft({ tmux }: Terminal, code: number): Promise<void> {
  const screen = await tmux.shows(new RegExp(`^ended with ${code}\ntty \\d+ \\d+\n`, "m"));
  const settings = screen.split("\n").filter((line) => /^tty \d+ \d+$/.test(line));
  assert.equal(settings.length, 2, screen);
  assert.equal(settings[0], settings[1]);
  assert.doesNotMatch(screen, /quasaur top +\d/);
  assert.equal(await tmux.fact("alternate_on"), "0");
  assert.equal(await tmux.fact("cursor_flag"), "1");
}

test("top shows pods of all sandboxers; keys open, filter, drill in and kill", async ({ bed }) => {
  await using pods = new Pods(bed);
  await Promise.all([pods.wasm("busy", "spin"), pods.wasm("idle", "sleep"), pods.gvisor("box")]);
  const terminal = await pods.terminal();
  const { tmux } = terminal;

  await startTop(terminal, "busy", "--sort name");
  const first = await tmux.shows(
    /^quark +1 +1 .*\n^wasm +2 +2 [^]*^\+ busy +wasm +ready +\d+\.\d +\S+ +1 +1 +\d+s$/m,
  );
  assert.match(first, /^ quasaur top +2 sandboxers, 3 pods, 3 containers +every 250ms/);
  assert.deepEqual(first.match(/^\+ \w+/gm), ["+ box", "+ busy", "+ idle"]);
  assert.equal(first.trimEnd().split("\n").length, 24);
  await tmux.press("s");
  await tmux.shows(/CPU%v[^]*^\+ busy /m);

  // The pod stays marked while the list changes; its container is shown beneath it.
  await tmux.press("s", "s", "s");
  await tmux.shows(/PODv/);
  await tmux.type("/bo");
  await tmux.shows(/filter: bo_/);
  await tmux.press("Enter", "Space");
  await tmux.shows(/^- box .*\n +\S+ +test\/image +running/m);
  assert.doesNotMatch(await tmux.screen(), /\+ (busy|idle)/);

  await tmux.press("Enter");
  await tmux.shows(/^made by +quasaur$/m);
  await tmux.press("l");
  await tmux.shows(/^\d\d:\d\d:\d\d tick 1$/m);
  await tmux.press("e");
  await tmux.shows(/ quark +process-started /);

  await tmux.press("x");
  await tmux.shows(/^\/ #/m);
  await tmux.type("echo $((6 * 7)); stty size; exit 5");
  await tmux.press("Enter");
  await tmux.shows("the shell ended with 5");
  await tmux.press("Escape");
  await tmux.shows(/^- box /m);

  await tmux.press("K");
  await tmux.shows('kill pod "box"? y/n');
  await tmux.press("n");
  await tmux.shows('did not kill pod "box"');
  await tmux.press("K", "y");
  await tmux.shows(/signal 9/);
  await tmux.press("Escape");
  await tmux.shows("busy");

  await tmux.resize(100, 40);
  await tmux.shows(/NAMESPACE[^]*^EVENTS$/m);
  await tmux.resize(30, 5);
  await tmux.shows("too small");
  await tmux.resize(80, 24);
  await tmux.shows("busy");
  await tmux.press("q");
  await expectLeft(terminal, 0);
});

test("the terminal is as it was after Ctrl-C and after SIGTERM", async ({ bed }) => {
  await using pods = new Pods(bed);
  await pods.wasm("idle", "sleep");
  const terminal = await pods.terminal();
  await startTop(terminal, "idle");
  assert.equal(await terminal.tmux.fact("alternate_on"), "1");
  await terminal.tmux.press("C-c");
  await expectLeft(terminal, 0);
  await terminal.tmux.type("clear");
  await terminal.tmux.press("Enter");
  await startTop(terminal, "idle");
  Deno.kill(await terminal.program.pid(), "SIGTERM");
  await expectLeft(terminal, 128 + 15);
});

test("top that was stopped is drawn anew when it goes on", async ({ bed }) => {
  await using pods = new Pods(bed);
  await pods.wasm("idle", "sleep");
  const { tmux, program } = await pods.terminal();
  await tmux.type("quasaur top --interval 250ms");
  await tmux.press("Enter");
  await tmux.shows("idle");
  // The shell has the terminal as it was left, changes it, and writes where the picture was.
  Deno.kill(await program.pid(), "SIGSTOP");
  await tmux.shows(/Stopped/);
  await tmux.type("clear; stty sane; echo spoilt; fg");
  await tmux.press("C-j");
  await tmux.shows(/^ quasaur top +2 sandboxers[^]*^\+ idle +wasm/m);
  assert.doesNotMatch(await tmux.screen(), /Stopped|spoilt/);
  assert.equal(await tmux.fact("alternate_on"), "1");
  // A key is read without Enter: the settings are its own again.
  await tmux.press("q");
  await tmux.shows(/^\$ *$/m);
  assert.equal(await tmux.fact("alternate_on"), "0");
});

test("top prints one look on a terminal that can do nothing but print", async ({ bed }) => {
  await using pods = new Pods(bed);
  await pods.wasm("idle", "sleep");
  const { tmux } = await pods.terminal();
  await tmux.type("TERM=dumb quasaur top; echo ended with $?");
  await tmux.press("Enter");
  const screen = await tmux.shows(/^ended with 0$/m);
  assert.match(screen, /^\+ idle +wasm +ready /m);
  assert.equal(await tmux.fact("alternate_on"), "0");
});

test("a sandboxer that is killed is shown as gone, and with its pods once it is back", async ({ bed }) => {
  await using pods = new Pods(bed);
  await pods.wasm("first", "sleep");
  const terminal = await pods.terminal();
  const { tmux } = terminal;
  await startTop(terminal, "first");
  const { process } = bed.sandboxer("wasm");
  await process.kill();
  await tmux.shows(/1 of 2 sandboxers up[^]*^wasm +gone since \d+s: [^]*^\+ first +wasm +unknown/m);
  await bed.sandboxer("wasm").start();
  await tmux.shows(/top +2 sandboxers, [^]*^\+? *first +wasm +stopped/m);
  await pods.wasm("second", "sleep");
  await tmux.shows(/^\+ second +wasm +ready/m);
  await tmux.press("q");
  await expectLeft(terminal, 0);
});

test("top prints one look as text or as JSON where there is no terminal", async ({ bed }) => {
  await using pods = new Pods(bed);
  await pods.wasm("idle", "sleep");
  const { program } = await pods.terminal();
  const quasaur = `${program.directory}/quasaur`;
  const [text, json] = await Promise.all([
    run([quasaur, "top", "--once"]),
    run([quasaur, "top", "--json", "--filter", "idle"]),
  ]);
  assert.match(text.stdout, /^\+ idle +wasm +quasaur +ready +0\.0 +\S+ /m);
  // deno-lint-ignore no-control-regex -- this is what must not be there
  assert.doesNotMatch(text.stdout, /\x1b/);
  const seen: { sandboxers: { kind: string; state: string }[]; pods: { name: string }[] } = JSON
    .parse(json.stdout);
  assert.deepEqual(seen.sandboxers.map(({ kind, state }) => [kind, state]), [
    ["quark", "up"],
    ["wasm", "up"],
  ]);
  assert.deepEqual(seen.pods.map(({ name }) => name), ["idle"]);
});
