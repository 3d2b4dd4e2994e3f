/**
 * The standard streams of a task request: containerd's strings to a StdioSpec and back.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { StdioSpec, StreamSpec } from "../sandboxers/lifecycle/spec.ts";

/** The stdio fields that Create and Exec have in common. */
export interface StdioRequest {
  /** Path of a FIFO, a URL, or empty for none. */
  readonly stdin: string;
  /** As `stdin`. */
  readonly stdout: string;
  /** As `stdin`; empty with a terminal. */
  readonly stderr: string;
  /** Whether the process wants a terminal. */
  readonly terminal: boolean;
}

const SCHEME = /^([a-z][a-z0-9+.-]*):\/\//i;

/**
 * Decodes the standard streams of a request: an empty string is no stream, an absolute path is a
 * FIFO or file.
 *
 * @param request Create or Exec.
 * @throws SandboxError `InvalidArgument` for relative paths and for URLs. Not `Unimplemented`:
 *   containerd would answer that by trying an older version of the API.
 */
export function decodeStdio(request: StdioRequest): StdioSpec {
  return {
    stdin: decodeStream("stdin", request.stdin),
    stdout: decodeStream("stdout", request.stdout),
    stderr: decodeStream("stderr", request.stderr),
    terminal: request.terminal,
  };
}

function decodeStream(field: string, value: string): StreamSpec {
  if (value === "") return { kind: "null" };
  if (value.startsWith("/") && !value.includes("\0")) return { kind: "path", path: value };
  const scheme = SCHEME.exec(value)?.[1];
  const found = JSON.stringify(value.slice(0, 200));
  const advice = scheme === undefined
    ? "expected an absolute path or nothing"
    : `${scheme} URLs are not supported, expected the path of a FIFO; with CRI, leave io_type of ` +
      `the runtime empty or set it to "fifo"`;
  throw new SandboxError("InvalidArgument", `cannot open ${field}: found ${found}: ${advice}`);
}

/** A stream as containerd knows it: its path, or an empty string. */
export function streamPath(stream: StreamSpec): string {
  return stream.kind === "path" ? stream.path : "";
}
