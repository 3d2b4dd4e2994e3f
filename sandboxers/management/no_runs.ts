/**
 * The calls that make sandboxes where none can be made: each is answered with `Unimplemented`.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Runs } from "./ports.ts";

/** Makes nothing. */
export function noRuns(): Runs {
  return {
    handlers: {
      run: () => Promise.reject(refusal("run")),
      attach: () => refused("attach"),
      logs: () => refused("logs"),
      snapshot: () => Promise.reject(refusal("snapshot")),
      restore: () => Promise.reject(refusal("restore")),
    },
    recover: () => Promise.resolve(),
    forget: () => Promise.resolve(),
    detail: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function refusal(action: string): SandboxError {
  return new SandboxError("Unimplemented", `cannot ${action}: this sandboxer makes no sandboxes`);
}

// deno-lint-ignore require-yield -- there is nothing to give
async function* refused(action: string): AsyncGenerator<never> {
  throw await Promise.resolve(refusal(action));
}
