import assert from "node:assert/strict";
import { loneProcessMemory, memoryOf, processMemory } from "./process_memory.ts";

const SMAPS = `00400000-00800000 r-xp 00000000 fe:00 77                      /opt/my deno
Size:               4096 kB
Rss:                2048 kB
Pss:                1024 kB
Pss_Dirty:             0 kB
Anonymous:             0 kB
VmFlags: rd ex
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
Size:               1024 kB
Rss:                 512 kB
Pss:                 512 kB
Anonymous:           512 kB
7f0000100000-7f0000200000 r-xp 00000000 fe:00 78                 /usr/lib/libc.so.6
Rss:                 512 kB
Pss:                 256 kB
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
Rss:                 512 kB
Pss:                   0 kB
Anonymous:             0 kB
`;

Deno.test("memoryOf() counts what others map too in part, and own files in full", () => {
  assert.deepEqual(memoryOf(SMAPS, () => false), {
    pssMiB: 1.75,
    rssMiB: 3.5,
    anonymousMiB: 0.5,
  });
  assert.equal(memoryOf(SMAPS, (path) => path === "/opt/my deno").pssMiB, 2.75);
});

Deno.test("processMemory() of this process is plausible, and more where it is seen alone", async () => {
  const { pssMiB, rssMiB, anonymousMiB } = await processMemory(Deno.pid);
  assert.ok(anonymousMiB > 1);
  assert.ok(anonymousMiB <= pssMiB && pssMiB <= rssMiB);
  const alone = await loneProcessMemory(Deno.pid);
  assert.ok(pssMiB * 0.9 <= alone.pssMiB && alone.pssMiB <= alone.rssMiB);
});
