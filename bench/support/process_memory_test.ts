import assert from "node:assert/strict";
import { memoryOf, processMemory } from "./process_memory.ts";

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
`;

Deno.test("memoryOf() sums the mappings up, and the program's file in full where it is alone", () => {
  assert.deepEqual(memoryOf(SMAPS, "/opt/my deno"), {
    pssMiB: 1.75,
    alonePssMiB: 2.75,
    rssMiB: 3,
    anonymousMiB: 0.5,
  });
});

Deno.test("processMemory() of this process is plausible", async () => {
  const { pssMiB, alonePssMiB, rssMiB, anonymousMiB } = await processMemory(Deno.pid);
  assert.ok(anonymousMiB > 1);
  assert.ok(anonymousMiB <= pssMiB && pssMiB <= alonePssMiB && alonePssMiB <= rssMiB);
});
