import assert from "node:assert/strict";
import { compareVersions, isAtLeast } from "./versions.ts";

/** Each is older than the next. Source: deb-version(7), and versions found in Debian. */
const ASCENDING = [
  "0.0~git20220510.9886d3d-2",
  "0.14.1+dfsg-3.1",
  "0.17.1-1",
  "0.17.1-1+b1",
  "1.0~beta1~svn1245-1",
  "1.0~beta1-1",
  "1.0-1",
  "1.0.1-1",
  "1.0.9",
  "1.0.10",
  "1.6.20~ds1-1+deb12u2",
  "1.6.20~ds1-1+deb12u3",
  "2.1.9+ds1-5",
  "1:14.0-55.7~deb12u1",
  "1:21.1.8-74",
  "4:12.2.0-3",
];

Deno.test("compareVersions() orders versions as deb-version(7) says", () => {
  for (const [index, older] of ASCENDING.entries()) {
    assert.equal(compareVersions(older, older), 0);
    for (const newer of ASCENDING.slice(index + 1)) {
      assert.ok(compareVersions(older, newer) < 0, `${older} is older than ${newer}`);
      assert.ok(compareVersions(newer, older) > 0, `${newer} is newer than ${older}`);
    }
  }
});

Deno.test("isAtLeast() takes an upstream version as the minimum", () => {
  assert.equal(isAtLeast("2.1.9+ds1-5", "2.1"), true);
  assert.equal(isAtLeast("1.7.24~ds1-6+deb13u1", "2.1"), false);
  assert.equal(isAtLeast("1:14.0-55", "14"), true);
  assert.equal(isAtLeast("1:14.0-55", "15"), false);
  assert.equal(isAtLeast("anything", undefined), true);
});
