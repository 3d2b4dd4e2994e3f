import assert from "node:assert/strict";
import { parseRecords } from "./packages.ts";

const SHOWN = `Package: crun
Version: 1.28-1
Depends: libblake3-0 (>= 1.8.2), libc6 (>= 2.38) | libc6-other, libcap2:any (>= 1:2.10)
Pre-Depends: init-system-helpers
Filename: pool/main/c/crun/crun_1.28-1_amd64.deb
Description: runtime
 Depends: not a field
SHA256: ${"ab".repeat(32)}

Package: linux-image-cloud-amd64
Version: 7.2.12-1
Filename: pool/main/l/linux/linux-image-cloud-amd64_7.2.12-1_amd64.deb
SHA256: ${"cd".repeat(32)}

Package: crun
Version: 1.8-1
Filename: pool/main/c/crun/crun_1.8-1_amd64.deb
SHA256: ${"ef".repeat(32)}

Package: installed-only
Version: 1
Status: install ok installed
`;

Deno.test("records are read with what they need, each package once", () => {
  const records = parseRecords(SHOWN);
  assert.deepEqual(records.map(({ name }) => name), ["crun", "linux-image-cloud-amd64"]);
  assert.equal(records[0]?.version, "1.28-1");
  assert.equal(records[0]?.sha256, "ab".repeat(32));
  assert.deepEqual(records[0]?.depends, ["init-system-helpers", "libblake3-0", "libc6", "libcap2"]);
  assert.deepEqual(records[1]?.depends, []);
});

Deno.test("what cannot be downloaded is left out", () => {
  assert.ok(!parseRecords(SHOWN).some(({ name }) => name === "installed-only"));
  assert.deepEqual(parseRecords(""), []);
});
