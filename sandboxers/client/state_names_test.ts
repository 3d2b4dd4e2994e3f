import assert from "node:assert/strict";
import { ProcessState, SandboxState } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { processStateName, sandboxStateName } from "./state_names.ts";

/** The numbers of an enumeration with their names in it, in lower case. */
function members(states: Record<string, string | number>): [number, string][] {
  return Object.entries(states).flatMap(([name, state]) =>
    typeof state === "number" ? [[state, name.toLowerCase()]] : []
  );
}

Deno.test("every state has its own word", () => {
  for (const [state, name] of members(SandboxState)) {
    assert.equal(sandboxStateName(state), name.replace("unspecified", "unknown"));
  }
  for (const [state, name] of members(ProcessState)) {
    assert.equal(processStateName(state), name.replace("unspecified", "unknown"));
  }
  assert.equal(members(SandboxState).length, 7);
});
