/**
 * The peer of everything that starts guests: a process of the engine's own command line for each.
 *
 * @module
 */

import type { GuestName } from "../../tests/guests/build.ts";
import { guestPath } from "./guests.ts";
import { within } from "./within.ts";

/** Its name in the results. */
export const WASMEDGE = "wasmedge process";

/** How long a guest may take to write its first byte, in milliseconds. */
const FIRST_BYTE_TIMEOUT_MS = 10_000;

/**
 * Spawns the command line, which interprets a guest.
 *
 * @param guest Which; it writes something and ends.
 * @returns The milliseconds until its first byte was read.
 */
export async function processToFirstByte(guest: GuestName): Promise<number> {
  const command = new Deno.Command("wasmedge", {
    args: [guestPath(guest)],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  });
  const begin = performance.now();
  await using child = command.spawn();
  const reader = child.stdout.getReader();
  const { done } = await within(FIRST_BYTE_TIMEOUT_MS, "the first byte of wasmedge", reader.read());
  const elapsedMs = performance.now() - begin;

  reader.releaseLock();
  await child.stdout.cancel();
  const { code } = await child.status;
  if (done || code !== 0) throw new Error(`wasmedge failed: status ${code}`);
  return elapsedMs;
}

/** How many starts of one contender follow each other. */
const STARTS_IN_A_ROW = 10;

/**
 * The times of several starts in a row. In strict alternation each start of ours would find the
 * processor's caches full of the process before it, which is not what a node with many guests sees.
 *
 * @param start Starts once; answers the milliseconds.
 */
export async function several(start: () => Promise<number>): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < STARTS_IN_A_ROW; index++) times.push(await start());
  return times;
}
