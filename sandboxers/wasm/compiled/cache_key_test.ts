import assert from "node:assert/strict";
import { cacheKey, type CacheKeyParts } from "./cache_key.ts";
import { tellingLines } from "./processor.ts";

const PARTS: CacheKeyParts = {
  engine: "wasmedge 0.17.1",
  options: { optimizationLevel: 2, interruptible: false },
  processor: tellingLines("flags : a b\n"),
};

Deno.test("equal parts give equal keys", () => {
  const options = { interruptible: false, optimizationLevel: 2 } as const;
  assert.deepEqual(cacheKey({ ...PARTS, options }), cacheKey(PARTS));
  assert.match(cacheKey(PARTS).id, /^[0-9a-f]{16}$/);
});

Deno.test("another engine, option or processor gives another key", () => {
  const others: Partial<CacheKeyParts>[] = [
    { engine: "wasmedge 0.17.2" },
    { options: { optimizationLevel: 3, interruptible: false } },
    { options: { optimizationLevel: 2, interruptible: true } },
    { processor: tellingLines("flags : a b c\n") },
  ];
  const ids = new Set([PARTS, ...others].map((parts) => cacheKey({ ...PARTS, ...parts }).id));
  assert.equal(ids.size, others.length + 1);
});

Deno.test("a processor is told by its model and abilities, not by its speed or number", () => {
  const one =
    "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 7\ncpu MHz\t\t: 1000.0\nflags\t\t: sse avx\n";
  const two = `${one}\n${one.replace(": 0", ": 1").replace("1000.0", "2000.0")}`;
  assert.equal(tellingLines(one), tellingLines(two));
  assert.notEqual(tellingLines(one), tellingLines(one.replace("avx", "avx2")));
  assert.notEqual(tellingLines(one), tellingLines(one.replace("model\t\t: 7", "model\t\t: 8")));
  const arm = "processor : 0\nFeatures : fp asimd\nCPU part : 0xd0c\n";
  assert.notEqual(tellingLines(arm), tellingLines(arm.replace("0xd0c", "0xd40")));
  assert.match(tellingLines(arm), /CPU part: 0xd0c\nFeatures: fp asimd$/);
});
