import assert from "node:assert/strict";
import { ElfFile } from "../../../guest/image/elf.ts";
import type { ConfinedProgram } from "../../host/confined.ts";
import { type QemuStubOptions, runStub, stubArguments } from "./qemu_stub.ts";
import { STUB_STATUS, stubGuest } from "./stub_guest.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const NEVER = new AbortController().signal;

/** Starts a program without confinement; what it writes goes to its log. */
async function spawn({ program, args, log }: ConfinedProgram) {
  await Promise.resolve();
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", log, program, ...args],
    stdin: "null",
  }).spawn();
  return {
    status: child.status,
    kill: (signal: Deno.Signal) => {
      try {
        child.kill(signal);
      } catch {
        // It has ended.
      }
    },
  };
}

async function withOptions(
  program: string,
  body: (options: QemuStubOptions) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-stub-" });
  try {
    await body({ program, place: { directory, user: undefined }, spawn });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("the tiny guest runs to its end in QEMU, more than once in one place", () =>
  withOptions(QEMU, async (options) => {
    const run = { accelerator: "tcg", timeoutMs: 30_000 } as const;
    assert.equal((await runStub(run, options, NEVER)).status, STUB_STATUS);
    assert.equal((await runStub(run, options, NEVER)).status, STUB_STATUS);
  }));

Deno.test("a guest that takes too long is ended and has no status", () =>
  withOptions("/bin/sleep", async (options) => {
    const sleeping: QemuStubOptions = {
      ...options,
      spawn: (program) => spawn({ ...program, args: ["60"] }),
    };
    const end = await runStub({ accelerator: "tcg", timeoutMs: 50 }, sleeping, NEVER);
    assert.equal(end.status, undefined);
  }));

Deno.test("what the VMM says when it refuses is in the answer", () =>
  withOptions(QEMU, async (options) => {
    const refused: QemuStubOptions = {
      ...options,
      spawn: (program) => spawn({ ...program, args: [...program.args, "-no-such-option"] }),
    };
    const end = await runStub({ accelerator: "tcg", timeoutMs: 30_000 }, refused, NEVER);
    assert.equal(end.status, 1);
    assert.match(end.message, /no-such-option/);
  }));

Deno.test("who gives up meanwhile is told so, and nothing runs on", () =>
  withOptions("/bin/sleep", async (options) => {
    const over = new AbortController();
    let isOver = false;
    const sleeping: QemuStubOptions = {
      ...options,
      spawn: async (program) => {
        const child = await spawn({ ...program, args: ["60"] });
        child.status.then(() => isOver = true);
        queueMicrotask(() => over.abort());
        return child;
      },
    };
    const run = runStub({ accelerator: "kvm", timeoutMs: 30_000 }, sleeping, over.signal);
    await assert.rejects(run, { name: "AbortError" });
    assert.ok(isOver);
  }));

Deno.test("the tiny guest is an ELF file whose note names its entry", () => {
  const file = stubGuest();
  const view = new DataView(file.buffer);
  const entry = view.getUint32(24, true);
  const note = view.getUint32(52 + 32 + 4, true);
  assert.equal(view.getUint32(note + 8, true), 18);
  assert.equal(view.getUint32(note + 16, true), entry);
  assert.throws(() => new ElfFile(file, "stub"), /not a 64-bit/);
});

Deno.test("QEMU gets no more devices for it than it needs", () => {
  const args = stubArguments("kvm", "/a/stub.elf");
  assert.ok(args.includes("-nodefaults"));
  assert.equal(args.filter((arg) => arg === "-device").length, 1);
});
