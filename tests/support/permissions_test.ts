import assert from "node:assert/strict";
import { permissionFlags, REPOSITORY } from "./permissions.ts";

const REPLACEMENTS = new Map([
  ["/run/containerd", "/tmp/bed/state"],
  ["/run/containerd/containerd.sock", "/tmp/bed/containerd.sock"],
  ["/run/quasaur", "/tmp/bed/quasaur"],
]);

Deno.test("permissionFlags() replaces the longest prefix of each path", () => {
  const set = {
    read: ["/run/quasaur/wasm", "/run/containerd/io", "/etc/hosts"],
    net: [
      "unix:/run/quasaur/wasm.sock",
      "unix:/run/containerd/containerd.sock.ttrpc",
      "10.0.0.1:80",
    ],
  };
  assert.deepEqual(permissionFlags(set, REPLACEMENTS), [
    "--allow-read=/tmp/bed/quasaur/wasm,/tmp/bed/state/io,/etc/hosts",
    "--allow-net=unix:/tmp/bed/quasaur/wasm.sock,unix:/tmp/bed/containerd.sock.ttrpc,10.0.0.1:80",
  ]);
});

Deno.test("permissionFlags() takes relative paths from the repository", () => {
  const set = {
    ffi: ["./sandboxers/wasm/native/build/lib.so"],
    run: ["./build/launcher", "qemu"],
  };
  assert.deepEqual(permissionFlags(set, REPLACEMENTS), [
    `--allow-ffi=${REPOSITORY}/sandboxers/wasm/native/build/lib.so`,
    `--allow-run=${REPOSITORY}/build/launcher,qemu`,
  ]);
});

Deno.test("permissionFlags() keeps allow, deny and ignore apart and leaves out what is off", () => {
  const set = {
    env: { ignore: true },
    sys: ["hostname"],
    run: false,
    write: { allow: ["/run/quasaur"], deny: ["/run/quasaur/x"] },
    read: true,
  };
  assert.deepEqual(permissionFlags(set, REPLACEMENTS), [
    "--ignore-env",
    "--allow-sys=hostname",
    "--allow-write=/tmp/bed/quasaur",
    "--deny-write=/tmp/bed/quasaur/x",
    "--allow-read",
  ]);
});

Deno.test("permissionFlags() refuses what it does not understand", () => {
  assert.throws(
    () => permissionFlags({ read: 3 }, REPLACEMENTS),
    /Cannot read the permission "read"/,
  );
});
