/**
 * Abort signals with an owner. `AbortSignal.any` keeps a link to its sources for as long as it
 * lives; a linked signal lets go when its scope ends.
 *
 * @module
 */

/** A signal that follows others until it is disposed of. */
export interface LinkedSignal extends Disposable {
  /** Aborts with the first of the others. */
  readonly signal: AbortSignal;
}

/** Makes a signal that aborts, with the same reason, as soon as one of the sources does. */
export function linkSignals(...sources: (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  const cleanUps: (() => void)[] = [];
  for (const source of sources) {
    if (source === undefined) continue;
    if (source.aborted) {
      controller.abort(source.reason);
      break;
    }
    const follow = (): void => controller.abort(source.reason);
    source.addEventListener("abort", follow, { once: true });
    cleanUps.push(() => source.removeEventListener("abort", follow));
  }
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const cleanUp of cleanUps) cleanUp();
    },
  };
}
