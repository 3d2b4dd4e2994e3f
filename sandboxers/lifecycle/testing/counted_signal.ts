/**
 * A signal that knows how many listen to it.
 *
 * @module
 */

/** See the module. */
export interface CountedSignal {
  /** The signal. */
  readonly signal: AbortSignal;
  /** How many listen to it, without those that it has called. */
  readonly listeners: () => number;
  /** Fires it. */
  readonly abort: () => void;
}

/** Makes one. */
export function countedSignal(): CountedSignal {
  const controller = new AbortController();
  const { signal } = controller;
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  const listening = new Set<unknown>();
  Object.defineProperty(signal, "addEventListener", {
    value: (...args: Parameters<typeof addEventListener>) => {
      listening.add(args[1]);
      addEventListener.apply(signal, args);
    },
  });
  Object.defineProperty(signal, "removeEventListener", {
    value: (...args: Parameters<typeof removeEventListener>) => {
      listening.delete(args[1]);
      removeEventListener.apply(signal, args);
    },
  });
  return {
    signal,
    listeners: () => listening.size,
    abort: () => {
      controller.abort();
      listening.clear();
    },
  };
}
