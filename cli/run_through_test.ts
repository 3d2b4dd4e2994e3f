import assert from "node:assert/strict";
import { Command } from "commander";
import { Fleet } from "../sandboxers/client/fleet.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { addAddress } from "./client/command.ts";
import { codeOfError } from "./exit_codes.ts";
import type { RunCommandOptions } from "./run_options.ts";
import { chooseSandboxer, type RunKind, THROUGH_PORTS, type ThroughPorts } from "./run_through.ts";

/** Where something runs; notes which sockets were opened. */
async function choose(
  kind: RunKind,
  options: Partial<RunCommandOptions>,
  { there, failure }: { readonly there: readonly string[]; readonly failure?: SandboxError },
) {
  const opened: string[] = [];
  const ports: ThroughPorts = {
    ...THROUGH_PORTS,
    isThere: (address) => Promise.resolve(there.includes(address)),
    open: (addresses) => {
      opened.push(...addresses);
      return failure === undefined ? Promise.resolve(new Fleet([])) : Promise.reject(failure);
    },
  };
  const command = addAddress(new Command());
  const chosen = await chooseSandboxer(
    { kind, command, options: { detachKeys: "", ...options }, embeddedOnly: undefined },
    ports,
  ).catch((error: unknown) => SandboxError.from(error));
  return { chosen, opened };
}

const QUARK = "/run/quasaur/quark.sock";
const WASM = "/run/quasaur/wasm.sock";

Deno.test("run --detach without a sandboxer names the one that it takes, and looks at no other", async () => {
  const { chosen, opened } = await choose("gvisor", { detach: true }, { there: [WASM] });
  assert.ok(chosen instanceof SandboxError);
  assert.match(chosen.message, /of the kind quark is running.*quark\.sock.*start quasaur-quark/);
  assert.equal(chosen.code, "Unavailable");
  assert.deepEqual(opened, []);
});

Deno.test("run takes this process where nobody listens any more, unless a sandboxer is needed", async () => {
  const failure = new SandboxError("Unavailable", "nobody listens there");
  const place = { there: [WASM, QUARK], failure };
  assert.deepEqual(await choose("gvisor", {}, place), { chosen: undefined, opened: [QUARK] });
  assert.equal((await choose("gvisor", { detach: true }, place)).chosen, failure);
});

Deno.test("run ends with 127 where there is no such program, with 126 where it cannot be run", () => {
  const codeOf = (message: string) => codeOfError(new SandboxError("InvalidArgument", message));
  assert.equal(codeOf('cannot start: exec: "x": executable file not found in $PATH'), 127);
  assert.equal(codeOf('cannot start: exec: "/x": stat /x: no such file or directory'), 127);
  assert.equal(codeOf('cannot start: exec: "/x": permission denied'), 126);
});
