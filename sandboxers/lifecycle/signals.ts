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

/**
 * Waits, unless a signal fires first; nothing of it stays at the signal.
 *
 * @param ms How long, in milliseconds.
 * @param signal Ends the waiting.
 */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => resolve();
  const timer = setTimeout(wake, ms);
  signal.addEventListener("abort", wake, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", wake);
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
