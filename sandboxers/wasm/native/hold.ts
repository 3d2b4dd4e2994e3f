/**
 * Keeps buffers alive while another thread works on them.
 *
 * @module
 */

const held = new Set<readonly Uint8Array[]>();

/**
 * Makes a call that runs on another thread with buffers. Neither Deno nor the garbage collector
 * knows that the other thread uses them; here they are reachable until the call is over.
 *
 * @param buffers Each at least 128 bytes long: shorter ones may lie inside the JavaScript heap,
 *   where the collector moves them.
 * @param call Starts the call.
 */
export async function holding<T>(
  buffers: readonly Uint8Array[],
  call: () => Promise<T>,
): Promise<T> {
  held.add(buffers);
  try {
    return await call();
  } finally {
    held.delete(buffers);
  }
}
