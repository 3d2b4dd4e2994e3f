/**
 * A call that a sandboxer answers, as metrics and traces see it.
 *
 * @module
 */

import type { DescService } from "@bufbuild/protobuf";

/** A value, now or later. */
export type Eventually<T> = T | Promise<T>;

/** A call that is about to be answered. */
export interface RpcCall {
  /** The last part of the service's name, such as `Task`. */
  readonly service: string;
  /** The method, such as `Create`. */
  readonly method: string;
  /** The sandbox that it is about, as far as that is known. */
  readonly sandboxId?: string | undefined;
  /** The container that it is about. */
  readonly containerId?: string | undefined;
  /** The exec that it is about. */
  readonly execId?: string | undefined;
  /**
   * What came with the call under a name, such as `traceparent`.
   *
   * @param name In lower case.
   */
  header(name: string): string | undefined;
}

/** Hears of calls. */
export interface RpcObserver {
  /**
   * Answers a call, and takes note of how long that took and how it ended.
   *
   * @param call Which one.
   * @param run Answers it; called once. A call that is answered at once stays one.
   */
  rpc<T>(call: RpcCall, run: () => Eventually<T>): Eventually<T>;
}

/**
 * The last part of a service's name: `Task` of `containerd.task.v3.Task`.
 *
 * @param service The generated descriptor.
 */
export function shortName({ typeName }: Pick<DescService, "typeName">): string {
  return typeName.slice(typeName.lastIndexOf(".") + 1);
}

/** Methods that wait for something to happen: how long they take says nothing of the sandboxer. */
const WAITING: ReadonlySet<string> = new Set([
  ...["Controller/Wait", "Task/Wait"],
  ...["Management/Wait", "Management/Watch", "Management/Events", "Management/Stats"],
  ...["Management/Attach", "Management/Logs"],
]);

/** Whether a call waits for something to happen, as long as that takes. */
export function isWaiting({ service, method }: Pick<RpcCall, "service" | "method">): boolean {
  return WAITING.has(`${service}/${method}`);
}
