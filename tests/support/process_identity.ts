/**
 * Names a process for good: its id together with when it started, since ids are used again.
 *
 * @module
 */

/**
 * The identity of a process, as text.
 *
 * @param pid Its process id.
 * @returns undefined where there is no such process.
 */
export async function identify(pid: number): Promise<string | undefined> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => undefined);
  // The name in parentheses may hold blanks. Field 22 is the start time. Source: proc_pid_stat(5).
  const startTime = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return startTime === undefined ? undefined : `${pid} ${startTime}`;
}

/**
 * Whether a process still runs.
 *
 * @param identity What {@link identify} gave.
 * @returns Its process id, or undefined.
 */
export async function runningPid(identity: string): Promise<number | undefined> {
  const pid = Number(identity.split(" ")[0]);
  return identity !== "" && await identify(pid) === identity ? pid : undefined;
}
