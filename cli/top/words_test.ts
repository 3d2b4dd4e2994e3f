import assert from "node:assert/strict";
import { ageInWords, bytesInWords, latencyInWords, percentInWords, rateInWords } from "./words.ts";

Deno.test("numbers are told in few cells", () => {
  assert.deepEqual(
    [0, 999, 1000, 1024, 123_456, 5 * 2 ** 20, 2 ** 40, undefined].map(bytesInWords),
    ["0B", "999B", "1.0Ki", "1.0Ki", "121Ki", "5.0Mi", "1.0Ti", "-"],
  );
  assert.deepEqual(
    [0, 0.123, 9.996, 64, undefined].map(percentInWords),
    ["0.0", "12.3", "1000", "6400", "-"],
  );
  assert.deepEqual(
    [-5, 0, 99_000, 100_000, 5_999_000, 7_200_000, 300_000_000].map(ageInWords),
    ["0s", "0s", "99s", "1m", "99m", "2h", "3d"],
  );
  assert.deepEqual(
    [0, 0.34, 9.94, 120, 999.6, 61_000, undefined].map(latencyInWords),
    ["<.1ms", "0.3ms", "9.9ms", "120ms", "1.0s", "61.0s", "-"],
  );
  assert.deepEqual([0, 1.25, 240].map(rateInWords), ["0.0", "1.3", "240"]);
});
