/**
 * docs/getting-started.md as it is written: its commands run in order on a machine of their own, and
 * print what it says. systemctl is played by the test, which starts the units as far as that goes
 * without systemd.
 *
 * @module
 */

import assert from "node:assert/strict";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { copyBundle } from "./support/built_bundle.ts";
import { type Daemon, PrivateMachine } from "./support/private_machine.ts";
import { REPOSITORY } from "./support/permissions.ts";
import { startUnit } from "./support/unit_file.ts";
import { waitFor } from "./support/wait.ts";

/** A block of commands, and what it prints. */
interface Block {
  readonly commands: string;
  readonly expected: string | undefined;
}

/** The blocks that are marked to be run. */
function blocksOf(text: string, isLong: boolean): Block[] {
  const pattern = /<!-- run(: long)? -->\n\n```sh\n([^]*?)```\n(?:\n```text\n([^]*?)```)?/g;
  return [...text.matchAll(pattern)]
    .filter(([, long]) => long === undefined || isLong)
    .map(([, , commands = "", expected]) => ({ commands, expected }));
}

/** What was printed, line by line; a line of nothing but `*` stands for any lines. */
function expectOutput(printed: string, expected: string, commands: string): void {
  const source = expected.trimEnd().split("\n").map((line) => {
    if (line === "*") return "(?:.*\\n)*";
    const words = line.split(/ +/).map((word) =>
      word.split("*").map((part) => part.replaceAll(/[.\\+?^$(){}|[\]/]/g, "\\$&")).join(".*")
    );
    // Columns are as wide as what is in them; an asterisk among words may stand for nothing.
    return `${words.join(" *")} *\\n`;
  }).join("");
  assert.match(printed, new RegExp(`^${source}$`), `${commands} printed:\n${printed}`);
}

/** Plays systemctl. */
class Services implements AsyncDisposable {
  readonly #units = new Map<string, AsyncDisposable>();
  #containerd: Daemon | undefined;

  constructor(readonly machine: PrivateMachine) {}

  async run(args: readonly string[]): Promise<void> {
    const names = args.filter((word) => word.startsWith("quasaur-"));
    if (args[0] === "enable") {
      for (const name of names) {
        this.#units.set(name, await startUnit({ machine: this.machine, name }));
      }
    } else if (args[0] === "disable") {
      for (const name of names) await this.#stop(name);
    } else if (args.join(" ") === "restart containerd") await this.#restartContainerd();
    else throw new Error(`cannot play systemctl ${args.join(" ")}`);
  }

  async #stop(name: string): Promise<void> {
    await this.#units.get(name)?.[Symbol.asyncDispose]();
    this.#units.delete(name);
  }

  async #restartContainerd(): Promise<void> {
    await this.#containerd?.stop();
    this.#containerd = await this.machine.daemon("containerd", ["containerd"]);
    await waitFor("containerd", async () => {
      return (await this.machine.run(["ctr", "version"], { check: false })).status === 0;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#units.keys()]) await this.#stop(name);
  }
}

Deno.test("the page for newcomers does what it says", async () => {
  const directory = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "quasaur-started-" });
  try {
    await copyBundle(`${directory}/bundle`);
    await Deno.copyFile(`${GUESTS_BUILD_DIR}/hello.wasm`, `${directory}/hello.wasm`);
    const text = await Deno.readTextFile(`${REPOSITORY}/docs/getting-started.md`);
    const blocks = blocksOf(text, Deno.env.get("QUASAUR_LONG_TESTS") === "1");
    assert.ok(blocks.length >= 10);
    await using machine = await PrivateMachine.start([directory]);
    await using services = new Services(machine);
    for (const { commands, expected } of blocks) {
      let printed = "";
      // Commands of systemctl are taken out and played.
      for (const part of commands.split(/^(systemctl .*)\n/m)) {
        if (part.startsWith("systemctl ")) await services.run(part.split(" ").slice(1));
        else if (part.trim() !== "") {
          const ran = await machine.run(["sh", "-euc", `cd ${directory}\n${part}`], {
            check: false,
          });
          assert.equal(ran.status, 0, `${part} failed: ${ran.stdout}${ran.stderr}`);
          printed += ran.stdout;
        }
      }
      if (expected !== undefined) expectOutput(printed, expected, commands);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
