/**
 * Brings a small file that a container has written in the guest to the host, such as the termination
 * log, of which kubelet reads the end.
 *
 * @module
 */

import { VOLUME_READ_BYTES_MAX } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Agent } from "../agent.ts";
import { SINGLE_FILE } from "./volume_entries.ts";

/** How long the guest may take for each piece, in milliseconds: somebody waits for the exit. */
const READ_MS = 5_000;

/**
 * Writes the file of a single-file volume to the host, where it differs. Of a long one only the end
 * is taken.
 *
 * @param agent The agent of the guest.
 * @param volume The volume.
 * @param path The file on the host; it is there.
 * @throws {SandboxError} What the agent answers, and what goes wrong on the host.
 */
export async function readBack(agent: Agent, volume: string, path: string): Promise<void> {
  const read = (offset: number) => {
    const args = { volume, path: SINGLE_FILE, offset, length: VOLUME_READ_BYTES_MAX };
    return agent.request("volumeRead", args, { timeoutMs: READ_MS });
  };
  const first = await read(0);
  const { data } = first.sizeBytes > VOLUME_READ_BYTES_MAX
    ? await read(first.sizeBytes - VOLUME_READ_BYTES_MAX)
    : first;
  const action = `cannot write "${path}"`;
  try {
    const content = Uint8Array.fromBase64(data);
    const { size } = await Deno.stat(path);
    if (size === content.length && isEqual(await Deno.readFile(path), content)) return;
    await Deno.writeFile(path, content, { create: false });
  } catch (error) {
    throw SandboxError.from(error, action);
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
