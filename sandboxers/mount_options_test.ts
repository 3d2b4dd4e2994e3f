/**
 * Options of mounts.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MS, parseMount, splitLayers } from "./mount_options.ts";

Deno.test("an overlay's own options are data, in order", () => {
  const options = ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"];
  assert.deepEqual(parseMount({ type: "overlay", source: "overlay", options }), {
    type: "overlay",
    source: "overlay",
    flags: 0,
    data: options,
  });
});

Deno.test("words become flags, and the last one of a pair counts", () => {
  const flags = (...options: string[]) => parseMount({ type: "bind", source: "/", options }).flags;
  assert.equal(flags("rbind", "ro"), MS.bind | MS.recursive | MS.readOnly);
  assert.equal(flags("bind", "rw"), MS.bind);
  assert.equal(flags("ro", "rw"), MS.bind);
  assert.equal(flags("rw", "ro"), MS.bind | MS.readOnly);
  assert.equal(flags("nosuid", "nodev", "noexec"), MS.bind | MS.noSuid | MS.noDev | MS.noExec);
  assert.equal(flags(), MS.bind);
});

Deno.test("types and options that are not supported are refused by name", () => {
  const parse = (type: string, ...options: string[]) =>
    parseMount({ type, source: "/dev/x", options });
  assert.throws(() => parse("ext4"), /of type "ext4": expected overlay or bind/);
  assert.throws(() => parse("overlay", "loop"), /the option "loop"/);
  assert.throws(() => parse("overlay", "uidmap=0:1:2"), /the option "uidmap=0:1:2"/);
  assert.throws(() => parse("bind", "size=1", "x"), /unknown options for a bind mount: size=1,x/);
});

Deno.test("layers are split at colons that no backslash hides", () => {
  assert.deepEqual(splitLayers("/a:/b:/c"), ["/a", "/b", "/c"]);
  assert.deepEqual(splitLayers("/with\\:colon:/with\\\\backslash"), [
    "/with:colon",
    "/with\\backslash",
  ]);
  assert.deepEqual(splitLayers(""), []);
});
