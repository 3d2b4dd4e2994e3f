/**
 * tar(1) in a container, as an exec: what it writes and reads, and what it says when it fails.
 *
 * @module
 */

import type { FleetContainer } from "../../sandboxers/client/fleet.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Where programs are looked for in the container. */
const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Most of what it says that is kept, in characters. */
const WORDS_MAX = 2000;

/** A program in a container. */
export interface RemoteProgram {
  /** The container. */
  readonly found: FleetContainer;
  /** The program and its arguments. */
  readonly args: readonly string[];
  /** What it reads; nothing where it is missing. */
  readonly input?: AsyncIterable<Uint8Array>;
  /** Takes what it writes to standard output. */
  readonly output: (bytes: Uint8Array) => Promise<void>;
}

/** How a program ended. */
export interface RemoteEnd {
  /** Its status. */
  readonly status: number;
  /** What it wrote to standard error. */
  readonly words: string;
}

/**
 * Runs a program as root of a container.
 *
 * @throws {SandboxError} As the sandboxer says where it cannot be started; what the input throws.
 */
export async function runRemote(program: RemoteProgram): Promise<RemoteEnd> {
  const { found: { client, container }, args, input, output } = program;
  using call = client.attach();
  let words = "";
  const decoder = new TextDecoder();
  await call.send({
    message: {
      case: "exec",
      value: {
        target: container.id,
        process: { args: [...args], env: [PATH], cwd: "/" },
        stdin: input !== undefined,
        inherit: false,
      },
    },
  });
  let fed: Promise<unknown> | undefined;
  for await (const { message } of call) {
    switch (message.case) {
      case "started":
        if (input !== undefined) fed = feed(call, input);
        break;
      case "stdout":
        await output(message.value);
        break;
      case "stderr":
        if (words.length < WORDS_MAX) words += decoder.decode(message.value, { stream: true });
        break;
      case "exit": {
        // What could not be read here is why it failed there.
        const failure = await fed;
        if (failure !== undefined && failure !== GONE) throw failure;
        return { status: message.value.status, words: words.trim() };
      }
    }
  }
  throw new SandboxError("Unavailable", "cannot copy: the sandboxer has closed the connection");
}

/** Says that the program reads no more. */
const GONE = Symbol("gone");

/** Passes the input on; answers why that failed. */
async function feed(
  call: ReturnType<FleetContainer["client"]["attach"]>,
  input: AsyncIterable<Uint8Array>,
): Promise<unknown> {
  let failure: unknown;
  const iterator = input[Symbol.asyncIterator]();
  try {
    while (true) {
      let next: IteratorResult<Uint8Array>;
      try {
        next = await iterator.next();
      } catch (error) {
        failure = error;
        break;
      }
      if (next.done) break;
      await call.send({ message: { case: "stdin", value: next.value } });
    }
    await call.send({ message: { case: "closeStdin", value: {} } });
  } catch {
    failure ??= GONE;
  } finally {
    await iterator.return?.();
  }
  return failure;
}

/**
 * The error of a tar that did not do it.
 *
 * @param action What was being done.
 * @param end How it ended.
 */
export function tarError(action: string, { status, words }: RemoteEnd): SandboxError {
  const last = words.split("\n").filter((line) => line !== "").slice(0, 3).join("; ");
  const missing = /no such file|not found/i.test(words);
  return new SandboxError(
    missing ? "NotFound" : "FailedPrecondition",
    `${action}: ${last === "" ? `tar ended with ${status}` : last}`,
  );
}

/**
 * Says what to do where a container has no tar.
 *
 * @param action What was being done.
 * @param found The container.
 * @param thrown Why tar was not started.
 */
export function noTar(action: string, found: FleetContainer, thrown: unknown): SandboxError {
  const error = SandboxError.from(thrown, action);
  if (error.code !== "NotFound" && error.code !== "InvalidArgument") return error;
  const { name, id } = found.container;
  return new SandboxError(
    "FailedPrecondition",
    `${action}: the image of "${name === "" ? id : name}" has no program tar, which does the ` +
      `copying there (${error.message}): use an image with tar or busybox, or share a directory ` +
      "with --volume when it is run",
    { cause: thrown },
  );
}
