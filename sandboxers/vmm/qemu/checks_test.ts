import assert from "node:assert/strict";
import { writeCpio } from "../../../guest/image/cpio.ts";
import { pvhKernel } from "../../../guest/image/testing/elf_writer.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { BootFiles } from "./checks.ts";
import { probeSpec } from "./testing/fixture.ts";

const INITRD = writeCpio([{ kind: "file", path: "init", mode: 0o755, bytes: new Uint8Array(3) }]);

/** Where a kernel and an initrd are, and how they are looked at. */
interface Files {
  readonly kernel: string;
  readonly initrd: string;
  check(files: BootFiles, changes?: Parameters<typeof probeSpec>[1]): Promise<void>;
}

async function withFiles(body: (files: Files) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-boot-" });
  const [kernel, initrd] = [`${directory}/vmlinux`, `${directory}/initrd`];
  try {
    await Deno.writeFile(kernel, pvhKernel());
    await Deno.writeFile(initrd, INITRD);
    const spec = probeSpec(initrd, { kernel });
    await body({
      kernel,
      initrd,
      check: (files, changes = {}) => files.check("cannot boot", { ...spec, ...changes }),
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function says(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "FailedPrecondition");
    assert.match(error.message, pattern);
    return true;
  };
}

Deno.test("a kernel or an initrd that no guest can boot is refused with the setting's name", () =>
  withFiles(async ({ kernel, initrd, check }) => {
    await Deno.writeTextFile(kernel, "no kernel");
    await assert.rejects(
      check(new BootFiles()),
      says(/^cannot boot: cannot use the guest's kernel .*\(hypervisor\.kernel_path, /),
    );
    await Deno.writeFile(kernel, pvhKernel());
    await Deno.writeFile(initrd, writeCpio([{ kind: "directory", path: "dev", mode: 0o755 }]));
    await assert.rejects(
      check(new BootFiles()),
      says(/^cannot boot: cannot use the guest's initrd .*no \/init.*\(hypervisor\.initrd_path, /),
    );
  }));

Deno.test("only the firmware of a microvm wants an initrd of whole pages", () =>
  withFiles(async ({ initrd, check }) => {
    await Deno.writeFile(initrd, INITRD.subarray(0, INITRD.length - 512));
    await assert.rejects(check(new BootFiles()), says(/expected a multiple of 4096/));
    await check(new BootFiles(), { machine: "q35" });
  }));

Deno.test("files are read once, and again when they have changed", () =>
  withFiles(async ({ initrd, check }) => {
    const files = new BootFiles();
    await check(files);
    const { mtime } = await Deno.stat(initrd);
    assert.ok(mtime);
    await Deno.writeFile(initrd, new Uint8Array(INITRD.length));
    await Deno.utime(initrd, mtime, mtime);
    await check(files);
    await Deno.utime(initrd, mtime, new Date(mtime.getTime() + 1000));
    await assert.rejects(check(files), says(/initrd/));
    await Deno.writeFile(initrd, INITRD);
    await check(files);
    await Deno.remove(initrd);
    await assert.rejects(check(files), says(/not found/));
  }));
