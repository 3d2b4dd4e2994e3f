import assert from "node:assert/strict";
import { permissionFlags } from "../../tests/support/permissions.ts";
import { noopProgram } from "./noop_program.ts";

Deno.test("noopProgram has its own sockets and no foreign functions", () => {
  const flags = permissionFlags(noopProgram.permissions, new Map());
  assert.ok(!flags.some((flag) => flag.includes("ffi") || flag.includes("quasaur/wasm")));
  const net = flags.find((flag) => flag.startsWith("--allow-net="));
  assert.match(net ?? "", /unix:\/run\/quasaur\/noop\.sock,/);
});
