/**
 * What tests of the host room share: the launcher, directories and processes that go away again.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ErrorCode } from "../../lifecycle/errors.ts";
import { refused } from "../../lifecycle/testing/refused.ts";
import { Launcher, type ProcessIdentity } from "../launcher.ts";

/** The launcher that set-up built. */
export const launcher: Launcher = new Launcher();

/** A directory below /run, which root alone can change: confined programs may lie there. */
export async function runDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = `/run/quasaur-test-${crypto.randomUUID().slice(0, 8)}`;
  await Deno.mkdir(path, { mode: 0o755 });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** A process that sleeps until it is killed. */
export async function sleeper(): Promise<
  AsyncDisposable & { readonly identity: ProcessIdentity; readonly child: Deno.ChildProcess }
> {
  const child = new Deno.Command("sleep", { args: ["600"], stdin: "null" }).spawn();
  const identity = await launcher.identify(child.pid);
  assert.ok(identity);
  return {
    identity,
    child,
    [Symbol.asyncDispose]: async () => {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await child.status;
    },
  };
}

/**
 * Runs a program to its end.
 *
 * @returns What it wrote to standard output.
 */
export async function run(...[command = "", ...args]: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  assert.ok(success, `${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

/** Asks until the answer is yes, for a bounded time. */
export async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!await isSo()) {
    assert.ok(Date.now() < deadline, `${what}: not within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Checks a rejection's code and message. */
export async function assertFails(
  promise: Promise<unknown>,
  code: ErrorCode,
  message: RegExp,
): Promise<void> {
  await refused(promise, code, message);
}
