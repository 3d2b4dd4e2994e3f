import assert from "node:assert/strict";
import { WasmEdgeEngine } from "../wasmedge/engine.ts";
import { droppable, releaseLoadedPages } from "./loaded_pages.ts";

const entry = (head: string, anonymousKb: number, dirtyKb: number): string =>
  `${head}\nSize: 4 kB\nPrivate_Dirty: ${dirtyKb} kB\nAnonymous:      ${anonymousKb} kB\nVmFlags: rd\n`;

Deno.test("only unchanged, private, read-only mappings of files are dropped", () => {
  const smaps = [
    entry("7f0000000000-7f0000001000 r--p 00000000 fe:00 12 /usr/lib/libLLVM.so.21.1", 0, 0),
    entry("7f0000001000-7f0000003000 r-xp 00001000 fe:00 12 /usr/lib/libLLVM.so.21.1", 0, 0),
    entry("7f0000003000-7f0000004000 r--p 00003000 fe:00 12 /usr/lib/libLLVM.so.21.1", 4, 4),
    entry("7f0000004000-7f0000005000 rw-p 00004000 fe:00 12 /usr/lib/libLLVM.so.21.1", 0, 0),
    entry("7f0000005000-7f0000006000 r--p 00000000 00:00 0 ", 0, 0),
    entry("7f0000006000-7f0000007000 r--s 00000000 fe:00 12 /usr/lib/libLLVM.so.21.1", 0, 0),
    entry("7f0000007000-7f0000008000 r-xp 00000000 00:00 0 [vdso]", 0, 0),
  ].join("");
  assert.deepEqual(droppable(smaps), [
    { start: 0x7f0000000000, lengthBytes: 0x1000 },
    { start: 0x7f0000001000, lengthBytes: 0x2000 },
  ]);
});

Deno.test("the engine works on after the pages of its files were dropped", async () => {
  const engine = new WasmEdgeEngine();
  assert.ok(await releaseLoadedPages(engine.system) > 0);
  // (module (func (export "_start")))
  using module = await engine.load(
    Uint8Array.of(
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0],
      ...[7, 10, 1, 6, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74, 0, 0, 10, 4, 1, 2, 0, 0x0b],
    ),
  );
  const fd = engine.system.open("/dev/null", 2, "the null device");
  try {
    const options = { args: ["x"], env: [], preopens: [], stdin: fd, stdout: fd, stderr: fd };
    using guest = await engine.instantiate(module, options);
    await guest.start({ name: "x", steps: [] });
    assert.deepEqual(await guest.ended, { kind: "exit", code: 0 });
  } finally {
    engine.system.close(fd);
  }
  await engine.close();
});
