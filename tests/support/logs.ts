/**
 * Reads container logs in the format that CRI writes: `<RFC 3339 time> <stdout|stderr> <P|F> <text>`,
 * where P marks a part of a longer line and F its end.
 *
 * @module
 */

/** What a container wrote. */
export interface ContainerLog {
  /** Complete lines of standard output, without the line ends. */
  readonly stdout: readonly string[];
  /** Complete lines of standard error, without the line ends. */
  readonly stderr: readonly string[];
}

/**
 * Parses a CRI log.
 *
 * @param text The log file's content.
 * @throws {SyntaxError} On a line that is not in the format.
 */
export function parseContainerLog(text: string): ContainerLog {
  const lines = { stdout: [] as string[], stderr: [] as string[] };
  const open = { stdout: "", stderr: "" };
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const match = /^\S+ (stdout|stderr) ([PF]) ?(.*)$/.exec(line);
    const stream = match?.[1];
    if (match === null || (stream !== "stdout" && stream !== "stderr")) {
      throw new SyntaxError(`Cannot read the container log: "${line}" is not a CRI log line`);
    }
    open[stream] += match[3] ?? "";
    if (match[2] === "F") {
      lines[stream].push(open[stream]);
      open[stream] = "";
    }
  }
  return lines;
}

/**
 * Reads a container's log.
 *
 * @param path The log file.
 */
export async function readContainerLog(path: string): Promise<ContainerLog> {
  return parseContainerLog(await Deno.readTextFile(path));
}
