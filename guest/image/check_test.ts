import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { checkGuestImage, checkInitrd, checkKernel } from "./check.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { DEFAULT_INITRD, DEFAULT_KERNEL } from "./paths.ts";
import { elfFile, pvhKernel } from "./testing/elf_writer.ts";

const AGENT: CpioEntry = { kind: "file", path: "init", mode: 0o755, bytes: new Uint8Array(3) };

/** Whether it is the error of somebody who can do something about it. */
function says(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "FailedPrecondition");
    assert.match(error.message, pattern);
    assert.match(error.message, /deno task guest:image/);
    return true;
  };
}

async function withFiles(
  kernel: Uint8Array,
  initrd: Uint8Array,
  body: (kernel: string, initrd: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-check-" });
  try {
    await Deno.writeFile(`${directory}/vmlinux`, kernel);
    await Deno.writeFile(`${directory}/initrd`, initrd);
    await body(`${directory}/vmlinux`, `${directory}/initrd`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a kernel and an initrd that fit are accepted", () =>
  withFiles(pvhKernel(), writeCpio([AGENT]), (kernel, initrd) => checkGuestImage(kernel, initrd)));

Deno.test("the kernel and the initrd that were built are accepted", () =>
  checkGuestImage(DEFAULT_KERNEL, DEFAULT_INITRD));

Deno.test("a file that is missing is told with what to do", () =>
  withFiles(pvhKernel(), writeCpio([AGENT]), async (kernel, initrd) => {
    await assert.rejects(
      checkGuestImage("/missing/vmlinux", initrd),
      says(/the guest's kernel "\/missing\/vmlinux": not found/),
    );
    await assert.rejects(
      checkGuestImage(kernel, "/missing/initrd"),
      says(/the guest's initrd "\/missing\/initrd": not found/),
    );
    await assert.rejects(checkGuestImage("/", initrd), says(/the guest's kernel "\/"/));
  }));

Deno.test("a bzImage, another machine's kernel and one without the PVH entry are refused", () => {
  const bzImage = new Uint8Array(4096);
  bzImage.set(new TextEncoder().encode("HdrS"), 0x202);
  assert.throws(
    () => checkKernel(bzImage, "/k"),
    says(/"\/k": a bzImage: expected the uncompressed/),
  );
  const other = elfFile({ machine: 183, notes: [{ owner: "Xen", type: 18 }] });
  assert.throws(() => checkKernel(other, "/k"), says(/made for ELF machine 183: expected 62/));
  assert.throws(() => checkKernel(elfFile({}), "/k"), says(/no PVH entry/));
  const similar = elfFile({ notes: [{ owner: "Xen", type: 5 }, { owner: "GNU", type: 18 }] });
  assert.throws(() => checkKernel(similar, "/k"), says(/no PVH entry/));
  assert.throws(() => checkKernel(new TextEncoder().encode("text"), "/k"), says(/not a 64-bit/));
});

Deno.test("an initrd that is not filled up to whole pages is refused", () => {
  const initrd = writeCpio([AGENT]);
  assert.throws(
    () => checkInitrd(initrd.subarray(0, initrd.length - 512), "/i"),
    says(/expected a multiple of 4096.*truncate/),
  );
  assert.throws(() => checkInitrd(new Uint8Array(), "/i"), says(/empty/));
});

Deno.test("an initrd without an agent is refused, one that cannot be looked into is not", () => {
  const without = writeCpio([{ kind: "directory", path: "usr", mode: 0o755 }]);
  assert.throws(() => checkInitrd(without, "/i"), says(/no \/init in it/));
  const locked = writeCpio([{ ...AGENT, mode: 0o644 }]);
  assert.throws(() => checkInitrd(locked, "/i"), says(/not executable/));
  assert.throws(() => checkInitrd(new Uint8Array(4096), "/i"), says(/not an uncompressed cpio/));
  const packed = new Uint8Array(4096);
  packed.set([0x28, 0xb5, 0x2f, 0xfd]);
  checkInitrd(packed, "/i");
});

Deno.test("an initrd of several archives has its agent in any of them", () => {
  const microcode = writeCpio([{ kind: "directory", path: "kernel", mode: 0o755 }]);
  const joined = (...parts: readonly Uint8Array[]) => Uint8Array.from(parts.flatMap((p) => [...p]));
  checkInitrd(joined(microcode, writeCpio([AGENT])), "/i");
  assert.throws(() => checkInitrd(joined(microcode, microcode), "/i"), says(/no \/init in it/));
  const locked = writeCpio([{ ...AGENT, mode: 0o644 }]);
  assert.throws(
    () => checkInitrd(joined(writeCpio([AGENT]), locked), "/i"),
    says(/not executable/),
  );
  const packed = new Uint8Array(4096);
  packed.set([0x1f, 0x8b]);
  checkInitrd(joined(microcode, packed), "/i");
  assert.throws(() => checkInitrd(joined(microcode, packed.fill(7)), "/i"), says(/at byte 4096/));
});
