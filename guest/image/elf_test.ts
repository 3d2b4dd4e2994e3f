import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { ElfFile } from "./elf.ts";
import { elfFile } from "./testing/elf_writer.ts";

Deno.test("a program's loader and libraries are read as the system has them", async () => {
  const elf = new ElfFile(await Deno.readFile(Deno.execPath()), "deno");
  assert.match(elf.interpreter() ?? "", /^\/lib.*\/ld-linux/);
  assert.ok(elf.neededLibraries().includes("libc.so.6"), elf.neededLibraries().join());
});

Deno.test("notes are read with their owners and kinds", () => {
  const notes = [{ owner: "GNU", type: 3 }, { owner: "Xen", type: 18 }];
  const read = new ElfFile(elfFile({ notes }), "kernel").notes();
  assert.deepEqual(read.map(({ owner, type }) => ({ owner, type })), notes);
});

Deno.test("a section is found by its whole name", () => {
  const elf = new ElfFile(elfFile({ modinfo: "depends=a,b\0" }), "module");
  assert.equal(new TextDecoder().decode(elf.section(".modinfo")), "depends=a,b\0");
  assert.equal(elf.section(".mod"), undefined);
  assert.equal(elf.section(".text"), undefined);
});

Deno.test("a file without a dynamic section needs nothing", () => {
  const elf = new ElfFile(elfFile({}), "static");
  assert.deepEqual(elf.neededLibraries(), []);
  assert.equal(elf.interpreter(), undefined);
});

Deno.test("what is cut off or damaged anywhere is refused, and nothing else happens", () => {
  const whole = elfFile({ notes: [{ owner: "Xen", type: 18 }], modinfo: "depends=\0" });
  const readAll = (bytes: Uint8Array) => {
    const elf = new ElfFile(bytes, "damaged");
    elf.notes();
    elf.neededLibraries();
    elf.interpreter();
    elf.section(".modinfo");
  };
  let refused = 0;
  const attempt = (bytes: Uint8Array) => {
    try {
      readAll(bytes);
    } catch (error) {
      assert.ok(error instanceof SandboxError, String(error));
      assert.equal(error.code, "FailedPrecondition");
      refused++;
    }
  };
  for (let length = 0; length < whole.length; length++) attempt(whole.subarray(0, length));
  assert.ok(refused > 0);
  for (let at = 0; at < whole.length; at++) {
    const damaged = whole.slice();
    damaged[at] = 0xff;
    attempt(damaged);
  }
});

Deno.test("text is no ELF file", () => {
  assert.throws(() => new ElfFile(new TextEncoder().encode("#!/bin/sh\n"), "a"), /"a": not a 64/);
});
