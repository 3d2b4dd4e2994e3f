/**
 * The last lines that containers have written, as they come.
 *
 * @module
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { LogEntry } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { ContainerRow, PodRow } from "./pod_row.ts";
import type { LogLine } from "./scene.ts";

/** How many lines are kept. */
export const LINES_MAX = 500;
/** How long a line may be, in characters. */
const LINE_MAX = 2_000;

/** Reads the log of a container, from its last lines on. */
export type ReadLog = (
  containerId: string,
  tail: number,
  signal: AbortSignal,
) => AsyncIterable<LogEntry>;

/** The log of the container that is looked at. Ends when disposed of. */
export class LogFollower implements Disposable {
  readonly #onChange: () => void;
  readonly #decoder = new TextDecoder();
  #lines: LogLine[] = [];
  #followed: string | undefined;
  #end: AbortController | undefined;
  /** The line that goes on in the next entry. */
  #open = false;

  /**
   * Follows nothing yet.
   *
   * @param onChange Called whenever there are other lines.
   */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** The lines, the oldest first. */
  get lines(): readonly LogLine[] {
    return this.#lines;
  }

  /**
   * Follows the log of a container, unless that is done already.
   *
   * @param pod Its pod; undefined to follow nothing.
   * @param container The container; the pod's first where it is missing.
   * @param read Reads it.
   */
  follow(pod: PodRow | undefined, container: ContainerRow | undefined, read: ReadLog): void {
    const followed = container ?? pod?.containers[0];
    if (followed?.key === this.#followed && followed !== undefined) return;
    this.#stop();
    if (pod === undefined) return;
    this.#followed = followed?.key;
    if (followed === undefined) return this.#remark("this pod has no container");
    if (!pod.managed) {
      this.#remark("containerd has the streams of this container; its log:");
      return this.#remark(`crictl logs ${followed.id}`);
    }
    const end = this.#end = new AbortController();
    void this.#read(read(followed.id, LINES_MAX, end.signal), end.signal);
  }

  /** Follows nothing any more. */
  [Symbol.dispose](): void {
    this.#stop();
  }

  #stop(): void {
    this.#end?.abort();
    this.#end = undefined;
    this.#followed = undefined;
    this.#lines = [];
    this.#open = false;
  }

  async #read(entries: AsyncIterable<LogEntry>, signal: AbortSignal): Promise<void> {
    try {
      for await (const entry of entries) {
        if (signal.aborted) return;
        this.#add(entry);
      }
      if (!signal.aborted) this.#remark("(the end)");
    } catch (error) {
      if (!signal.aborted) this.#remark(SandboxError.from(error).message);
    }
  }

  #add({ at, stream, content, partial }: LogEntry): void {
    const text = this.#decoder.decode(content).replace(/\r?\n$/, "");
    const isError = stream === "stderr";
    const last = this.#lines.at(-1);
    if (this.#open && last !== undefined && last.isError === isError) {
      this.#lines[this.#lines.length - 1] = {
        ...last,
        text: (last.text + text).slice(0, LINE_MAX),
      };
    } else {
      const atMs = at === undefined ? Date.now() : timestampMs(at);
      this.#lines.push({ atMs, isError, text: text.slice(0, LINE_MAX) });
    }
    this.#open = partial;
    this.#trim();
  }

  #remark(text: string): void {
    this.#lines.push({ atMs: undefined, isError: false, text });
    this.#open = false;
    this.#trim();
  }

  #trim(): void {
    if (this.#lines.length > LINES_MAX) this.#lines.splice(0, this.#lines.length - LINES_MAX);
    this.#onChange();
  }
}
