/**
 * A ttrpc server with one method, for tests of what surrounds methods.
 *
 * @module
 */

import { create } from "@bufbuild/protobuf";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";
import { join } from "node:path";
import {
  Events,
  type ForwardRequest,
} from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { STATUS_NUMBER } from "../../sandboxers/lifecycle/errors.ts";
import type { Call } from "../ttrpc/call.ts";
import { type ServerLimits, TtrpcServer } from "../ttrpc/server.ts";
import type { Eventually } from "../ttrpc/services.ts";

/** What the method does. */
export type Forward = (request: ForwardRequest, call: Call) => Eventually<Empty>;

/** The server and where it is. */
export interface ForwardServer extends AsyncDisposable {
  /** Its socket. */
  readonly path: string;
  /** The server. */
  readonly server: TtrpcServer;
  /** What it logged. */
  readonly warnings: string[];
}

/** The method. */
export const forward: typeof Events.method.forward = Events.method.forward;

/** The method as a raw request names it. */
export const REQUEST = { service: Events.typeName, method: "Forward" } as const;

/** An empty answer. */
export const empty = (): Empty => create(EmptySchema);

/** The number of a code on the wire. */
export function code(name: keyof typeof STATUS_NUMBER): number {
  return STATUS_NUMBER[name];
}

/** A server with one method, `Events/Forward`, that does what the test wants. */
export async function startServer(
  handler: Forward,
  limits: Partial<ServerLimits> = {},
): Promise<ForwardServer> {
  const dir = await Deno.makeTempDir({ prefix: "quasaur-ttrpc-" });
  const path = join(dir, "s.sock");
  const warnings: string[] = [];
  const server = new TtrpcServer({ limits, log: { warn: (text) => void warnings.push(text) } });
  await server.add(Events, { forward: handler }).listen(path);
  return {
    path,
    server,
    warnings,
    async [Symbol.asyncDispose]() {
      await server.close();
      await Deno.remove(dir, { recursive: true });
    },
  };
}

/** An answer of some size. */
export function bigAnswer(bytes: number): Empty {
  const answer = empty();
  answer.$unknown = [{ no: 1, wireType: 2, data: lengthPrefixed(bytes) }];
  return answer;
}

function lengthPrefixed(bytes: number): Uint8Array {
  const prefix: number[] = [];
  for (let rest = bytes;; rest >>>= 7) {
    if (rest < 128) {
      prefix.push(rest);
      break;
    }
    prefix.push((rest & 127) | 128);
  }
  const whole = new Uint8Array(prefix.length + bytes);
  whole.set(prefix);
  return whole;
}

/** A handler that waits until its call is aborted, and tells why. */
export function hanging(): { handler: Forward; aborted: Promise<unknown>; called: Promise<void> } {
  const aborted = Promise.withResolvers<unknown>();
  const called = Promise.withResolvers<void>();
  const handler: Forward = (_request, { signal }) => {
    called.resolve();
    return new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => {
        aborted.resolve(signal.reason);
        reject(signal.reason);
      });
    });
  };
  return { handler, aborted: aborted.promise, called: called.promise };
}
