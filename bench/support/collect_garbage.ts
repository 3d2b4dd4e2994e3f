/**
 * Tidies the heap of a process of Deno up from outside, so that what it keeps can be told from what
 * it has merely not thrown away yet. Source: Chrome DevTools Protocol, HeapProfiler.collectGarbage.
 *
 * @module
 */

import { within } from "./within.ts";

/** How long it may take, in milliseconds. */
const LIMIT_MS = 30_000;

/**
 * Has V8 collect garbage.
 *
 * @param port Where the process, started with `--inspect=127.0.0.1:PORT`, takes its debugger.
 * @throws {Error} When it does not answer.
 */
export async function collectGarbage(port: number): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${port}/json/list`);
  const [target] = await answer.json();
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  try {
    await within(LIMIT_MS, "the inspector of a sandboxer", once(socket, "open"));
    const done = once(socket, "message");
    socket.send(JSON.stringify({ id: 1, method: "HeapProfiler.collectGarbage" }));
    await within(LIMIT_MS, "a sandboxer to collect garbage", done);
  } finally {
    const closed = once(socket, "close");
    socket.close();
    await within(LIMIT_MS, "the inspector to close", closed);
  }
}

/** Waits for an event; a connection that fails ends the wait too. */
function once(socket: WebSocket, event: "open" | "message" | "close"): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.addEventListener(event, () => resolve(), { once: true });
    socket.addEventListener("error", () => reject(new Error("the inspector's connection failed")), {
      once: true,
    });
  });
}
