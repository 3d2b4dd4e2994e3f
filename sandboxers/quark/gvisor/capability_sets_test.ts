import assert from "node:assert/strict";
import { capabilityBits } from "./capability_sets.ts";

Deno.test("capability sets: a bit for each name that is known, and none for those left out", () => {
  assert.equal(capabilityBits([]), 0);
  assert.equal(capabilityBits(["CAP_CHOWN", "CAP_KILL", "CAP_CHOWN"]), 0b10_0001);
  assert.equal(capabilityBits(["CAP_CHECKPOINT_RESTORE", "CAP_AUDIT_READ"]), 2 ** 40 + 2 ** 37);
  assert.equal(capabilityBits(["CAP_NET_RAW", "CAP_NEWER", "CAP_CHOWN"], ["CAP_NET_RAW"]), 1);
});
