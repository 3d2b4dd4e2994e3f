/**
 * Tells systemd that this process is ready or about to go (sd_notify(3)), where systemd asked for
 * it and the permissions let us. Everywhere else it does nothing.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { Log } from "./log.ts";

/**
 * Sends one state.
 *
 * @param state Such as `READY=1`.
 * @param dir A directory for the socket that the message is sent from.
 * @param log Told at `warn` when systemd waits for the message and it cannot be sent.
 */
export async function notifySystemd(state: string, dir: string, log: Log): Promise<void> {
  const target = notifySocket();
  if (target === undefined) return;
  const own = `${dir}/notify.sock`;
  try {
    if (!target.startsWith("/")) throw new Error(`${JSON.stringify(target)} is no path`);
    await remove(own);
    // Deno cannot send from an unbound socket, so ours has a name for a moment.
    using socket = asDisposable(Deno.listenDatagram({ transport: "unixpacket", path: own }));
    const message = new TextEncoder().encode(state);
    await socket.send(message, { transport: "unixpacket", path: target });
  } catch (error) {
    log.warn("cannot notify systemd", { state, error: SandboxError.from(error) });
  } finally {
    await remove(own).catch(() => undefined);
  }
}

/** systemd's socket; undefined where there is none or the environment may not be read. */
function notifySocket(): string | undefined {
  try {
    return Deno.env.get("NOTIFY_SOCKET");
  } catch {
    return undefined;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function asDisposable(socket: Deno.DatagramConn): Deno.DatagramConn & Disposable {
  return Object.assign(socket, { [Symbol.dispose]: () => socket.close() });
}
