/**
 * Starts VMMs without the host launcher, as this process's own user and unconfined: for tests.
 *
 * @module
 */

import { SandboxError } from "../../../lifecycle/errors.ts";
import type { ProcessIdentity } from "../../../host/launcher.ts";
import { childProcess, type VmmLauncher } from "../vmm_launcher.ts";

/** A launcher that confines nothing; it needs all permissions. */
export function plainVmms(): VmmLauncher {
  return {
    firstTapFd: 10,
    start: async ({ program, args, log }) => {
      // It writes to a file as under the real launcher: Deno has pipes for children only.
      const child = new Deno.Command("/bin/sh", {
        args: ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", log, program, ...args],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      const identity = await identify(child.pid);
      return childProcess({
        identity,
        status: child.status,
        kill: (signal) => {
          try {
            child.kill(signal);
          } catch {
            // It has ended.
          }
        },
        unref: () => child.unref(),
      });
    },
    find: async (identity) => {
      const alive = async () => {
        const now = await identify(identity.pid).catch(() => undefined);
        return now?.startTime === identity.startTime;
      };
      if (!await alive()) return undefined;
      const waitForEnd = async (timeoutMs: number, signal?: AbortSignal) => {
        for (const end = Date.now() + timeoutMs; Date.now() < end && signal?.aborted !== true;) {
          if (!await alive()) return "it ended";
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return undefined;
      };
      const kill = async () => {
        if (await alive()) Deno.kill(identity.pid, "SIGKILL");
        await waitForEnd(5_000);
      };
      return { identity, waitForEnd, kill };
    },
  };
}

async function identify(pid: number): Promise<ProcessIdentity> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // A process that nobody has waited for has ended all the same.
  if (fields[0] === "Z" || fields[0] === "X") {
    throw new SandboxError("NotFound", `process ${pid} has ended`);
  }
  return { pid, startTime: Number(fields[19]) };
}
