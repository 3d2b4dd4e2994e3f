/**
 * Has the calls of the Task API heard of: which container each is about, and the sandbox that it is
 * in.
 *
 * @module
 */

import type { Sandboxer } from "../sandboxers/lifecycle/sandboxer.ts";
import type { Log } from "../sandboxers/log.ts";
import type { RpcCall, RpcObserver } from "../sandboxers/telemetry/rpc_call.ts";
import type { Call } from "./ttrpc/call.ts";
import type { Around } from "./ttrpc/services.ts";

/** What {@link taskCalls} works with. */
export interface TaskCallsOptions {
  /** Hears of each call. */
  readonly observer: RpcObserver;
  /** Knows which sandbox a container is in. */
  readonly sandboxer: Pick<Sandboxer, "container">;
  /** Gets every call at `debug`. */
  readonly log: Log;
}

/**
 * Stands around the handlers of the Task service.
 *
 * @param options See {@link TaskCallsOptions}.
 */
export function taskCalls({ observer, sandboxer, log }: TaskCallsOptions): Around {
  return (request, call, run) => {
    const rpc = rpcOf(request, call, sandboxer);
    const begin = performance.now();
    const fields = (sandboxId = rpc.sandboxId) => ({
      method: rpc.method,
      sandbox: sandboxId,
      container: rpc.containerId,
      exec: rpc.execId,
      ms: Math.round(performance.now() - begin),
    });
    // After a Delete nobody knows the container any more.
    const before = rpc.sandboxId;
    try {
      const answer = observer.rpc(rpc, run);
      if (!(answer instanceof Promise)) {
        log.debug("call", fields());
        return answer;
      }
      return answer.then((value) => {
        log.debug("call", fields(rpc.sandboxId ?? before));
        return value;
      }, (error: unknown) => {
        log.debug("call failed", { ...fields(rpc.sandboxId ?? before), error });
        throw error;
      });
    } catch (error) {
      log.debug("call failed", { ...fields(), error });
      throw error;
    }
  };
}

function rpcOf(request: object, call: Call, sandboxer: Pick<Sandboxer, "container">): RpcCall {
  const method = call.method.slice(call.method.lastIndexOf("/") + 1);
  const containerId = textOf(request, "id");
  return {
    service: "Task",
    method,
    containerId,
    execId: textOf(request, "execId"),
    get sandboxId() {
      return containerId === undefined ? undefined : sandboxOf(sandboxer, containerId);
    },
    header: (name) => call.metadata(name),
  };
}

function sandboxOf(sandboxer: Pick<Sandboxer, "container">, id: string): string | undefined {
  try {
    return sandboxer.container(id).spec.sandboxId;
  } catch {
    return undefined;
  }
}

function textOf(from: object, name: string): string | undefined {
  const value: unknown = Reflect.get(from, name);
  return typeof value === "string" && value !== "" ? value : undefined;
}
