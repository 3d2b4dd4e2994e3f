/**
 * Ctrl-C and its like while a guest runs: the first signal goes to the guest, a second one kills it.
 * Before there is a guest, a signal gives its start up.
 *
 * @module
 */

import { constants } from "node:os";

/** What a terminal, a user or a service manager sends to end a command. */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** What signals are for. */
export interface SignalTarget {
  /** Sends a signal by its number. */
  kill(signal: number): Promise<void>;
}

/** Signals of this process on their way to a guest. Disposing of it gives them their usual effect. */
export class ForwardedSignals implements Disposable {
  readonly #listeners = new DisposableStack();
  readonly #startAbort = new AbortController();
  readonly #killsAtLast: boolean;
  #target: SignalTarget | undefined;
  #sent = false;
  #givenUpBy: number | undefined;

  /**
   * Listens from now on.
   *
   * @param options `killsAtLast`: whether a second signal kills; every one is passed on as it is
   *   where not. Default true.
   */
  constructor({ killsAtLast = true }: { readonly killsAtLast?: boolean } = {}) {
    this.#killsAtLast = killsAtLast;
    for (const name of FORWARDED) {
      const listener = (): void => this.#onSignal(constants.signals[name]);
      Deno.addSignalListener(name, listener);
      this.#listeners.defer(() => Deno.removeSignalListener(name, listener));
    }
  }

  /** Aborted by a signal that came before there was a guest. */
  get startSignal(): AbortSignal {
    return this.#startAbort.signal;
  }

  /** The number of that signal. */
  get givenUpBy(): number | undefined {
    return this.#givenUpBy;
  }

  /** Sends to this guest from now on. */
  forwardTo(target: SignalTarget): void {
    this.#target = target;
  }

  #onSignal(number: number): void {
    if (this.#target === undefined) {
      this.#givenUpBy ??= number;
      this.#startAbort.abort();
      return;
    }
    const effective = this.#sent && this.#killsAtLast ? constants.signals.SIGKILL : number;
    this.#sent = true;
    // A guest that cannot be signalled any more is about to be waited for anyway.
    this.#target.kill(effective).catch(() => undefined);
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    this.#listeners.dispose();
  }
}
