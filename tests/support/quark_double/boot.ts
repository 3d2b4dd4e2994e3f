/**
 * The double's sandbox process: the one that stays. It serves tasks at a socket until it is killed.
 *
 * @module
 */

import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { TtrpcServer } from "../../../task/ttrpc/server.ts";
import type { DoubleConfig } from "./double_config.ts";
import { panic } from "./panic.ts";
import { DoubleTasks } from "./task_service.ts";

/** What it is started with. */
export interface BootOptions {
  /** The sandbox's bundle. */
  readonly bundle: string;
  /** The sandbox. */
  readonly id: string;
  /** The socket to listen at. */
  readonly socket: string;
  /** What goes wrong. */
  readonly config: DoubleConfig;
}

/** How often is looked whether connections are to be dropped, in milliseconds. */
const DROP_LOOK_MS = 20;

/** Serves until it is killed. */
export async function boot(options: BootOptions): Promise<never> {
  const fault = options.config.Double?.fault;
  if (fault === "garbage" || fault === "mute") listenBadly(options.socket, fault === "garbage");
  else if (fault === "drops-connections") await serveThroughDoor(options);
  else if (fault !== "never-listens") await serve(options, options.socket);
  // The parent waits for this line.
  Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
  if (fault === "boot-dies") {
    panic("can't open kvm");
  }
  const { promise } = Promise.withResolvers<never>();
  // Something that keeps the process.
  setInterval(() => undefined, 1 << 30);
  return await promise;
}

async function serve(options: BootOptions, socket: string): Promise<void> {
  await new TtrpcServer().add(Task, new DoubleTasks(options).handlers()).listen(socket);
}

function listenBadly(path: string, answers: boolean): void {
  const listener = Deno.listen({ transport: "unix", path });
  const accept = async () => {
    for await (const connection of listener) {
      if (answers) await connection.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n"));
    }
  };
  void accept();
}

/** Serves behind another listener, which closes all connections where a file says so. */
async function serveThroughDoor(options: BootOptions): Promise<void> {
  const behind = `${options.socket}.behind`;
  await serve(options, behind);
  const listener = Deno.listen({ transport: "unix", path: options.socket });
  const clients = new Set<Deno.UnixConn>();
  const accept = async () => {
    for await (const client of listener) {
      const server = await Deno.connect({ transport: "unix", path: behind });
      client.readable.pipeTo(server.writable).catch(() => undefined);
      server.readable.pipeTo(client.writable).catch(() => undefined);
      clients.add(client);
    }
  };
  void accept();
  setInterval(() => {
    try {
      Deno.removeSync(`${options.socket}.drop`);
    } catch {
      return;
    }
    for (const client of clients) client.close();
    clients.clear();
  }, DROP_LOOK_MS);
}
