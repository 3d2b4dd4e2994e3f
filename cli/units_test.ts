import assert from "node:assert/strict";
import { parseSize } from "./units.ts";

Deno.test("parseSize() reads plain bytes, thousands and 1024s", () => {
  assert.equal(parseSize("1"), 1);
  assert.equal(parseSize("65536"), 65536);
  assert.equal(parseSize("2k"), 2000);
  assert.equal(parseSize("3M"), 3_000_000);
  assert.equal(parseSize("1G"), 1_000_000_000);
  assert.equal(parseSize("1T"), 1_000_000_000_000);
  assert.equal(parseSize("1Ki"), 1024);
  assert.equal(parseSize("64Mi"), 67_108_864);
  assert.equal(parseSize("2Gi"), 2_147_483_648);
  assert.equal(parseSize("1Ti"), 1_099_511_627_776);
  assert.equal(parseSize("512m"), 536_870_912);
  assert.equal(parseSize("1g"), 1_073_741_824);
});

Deno.test("parseSize() refuses what is no size", () => {
  for (
    const text of [
      "",
      "0",
      "0Mi",
      "-1",
      "+1",
      "1.5Gi",
      "64 Mi",
      " 64Mi",
      "64mi",
      "64MB",
      "64MiB",
      "Mi",
      "1e3",
      "0x10",
      "infinity",
      "64Mi\n",
      "constructor",
      "1constructor",
      "9007199254740993",
      "99999999999Ti",
    ]
  ) {
    assert.equal(parseSize(text), undefined, JSON.stringify(text));
  }
});
