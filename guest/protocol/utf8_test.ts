import assert from "node:assert/strict";
import { decodeUtf8, encodeUtf8, plainUtf8 } from "./utf8.ts";
import { Chance } from "./testing/link.ts";

const SAMPLES = [
  "",
  "plain",
  "ümlaut",
  "漢字かな",
  "😀 and 𝄞",
  "\u0000\u007f\u0080\u07ff\u0800\uffff",
];

Deno.test("utf8: the plain implementation agrees with the platform's", () => {
  for (const sample of [...SAMPLES, SAMPLES.join("").repeat(3000), "lone \ud800 and \udc00"]) {
    const bytes = plainUtf8.encode(sample);
    assert.deepEqual(bytes, new TextEncoder().encode(sample));
    assert.equal(plainUtf8.decode(bytes), new TextDecoder().decode(bytes));
  }
});

Deno.test("utf8: a byte order mark is kept", () => {
  assert.equal(decodeUtf8(encodeUtf8("\ufeffa")), "\ufeffa");
  assert.equal(plainUtf8.decode(plainUtf8.encode("\ufeffa")), "\ufeffa");
});

Deno.test("utf8: both refuse the same bytes", () => {
  const chance = new Chance(7);
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const outcome = (decode: () => string) => {
    try {
      return decode();
    } catch {
      return undefined;
    }
  };
  let refused = 0;
  for (let round = 0; round < 5000; round++) {
    const bytes = chance.bytes(1 + chance.below(6));
    const expected = outcome(() => strict.decode(bytes));
    assert.equal(outcome(() => plainUtf8.decode(bytes)), expected, `bytes ${bytes}`);
    if (expected === undefined) refused++;
  }
  assert.ok(refused > 1000);
});
