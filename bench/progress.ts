/**
 * Tells a waiting person how far a benchmark is: one line that renews itself on a terminal, a line
 * now and then elsewhere.
 *
 * @module
 */

/** Where the words go; standard error in life. */
export interface ProgressOutput {
  /** Writes all of the bytes or throws. */
  writeSync(bytes: Uint8Array): number;
  /** Whether a person looks at it. */
  isTerminal(): boolean;
}

/** The shortest time between two lines that are not for a terminal, in milliseconds. */
const PLAIN_INTERVAL_MS = 5_000;

/** The shortest time between two looks of the line on a terminal, in milliseconds. */
const TERMINAL_INTERVAL_MS = 100;

/** The widest line; a longer one would wrap and could not be wiped out. */
const WIDTH = 79;

/** Tells about progress. Disposing of it wipes its line out. */
export class Progress implements Disposable {
  readonly #output: ProgressOutput;
  readonly #terminal: boolean;
  readonly #now: () => number;
  #toldAt = -Infinity;
  #stage = "";

  /**
   * Tells nothing yet.
   *
   * @param output Where to tell. Default: standard error.
   * @param now The present in milliseconds. Default: the monotonic clock.
   */
  constructor(output: ProgressOutput = Deno.stderr, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#terminal = output.isTerminal();
    this.#now = now;
  }

  /**
   * Begins a stage and tells so at once.
   *
   * @param stage What is done now.
   */
  stage(stage: string): void {
    this.#stage = stage;
    this.#toldAt = this.#now();
    this.#line(stage);
  }

  /**
   * Tells where the stage is; not more often than a person can read.
   *
   * @param done How many steps are done.
   * @param total How many there are at most.
   * @param what The next step.
   */
  step(done: number, total: number, what: string): void {
    const now = this.#now();
    if (now - this.#toldAt < (this.#terminal ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS)) return;
    this.#toldAt = now;
    this.#line(`${this.#stage}  ${done}/${total}  ${what}`);
  }

  /** Wipes the line out, so that something else can be printed. */
  clear(): void {
    if (this.#terminal) this.#write("\r\x1b[K");
  }

  /** {@link Progress.clear}. */
  [Symbol.dispose](): void {
    this.clear();
  }

  #line(text: string): void {
    this.#write(this.#terminal ? `\r\x1b[K${text.slice(0, WIDTH)}` : `${text}\n`);
  }

  #write(text: string): void {
    this.#output.writeSync(new TextEncoder().encode(text));
  }
}
