/**
 * What the thread of a guest and the engine share while the guest runs: numbers in shared memory,
 * since a thread that computes or waits receives no message.
 *
 * @module
 */

const STOP = 0;
const THREAD_ID = 1;
const WORDS = 2;

const LINEAR_BYTES = 0;
const CPU_BEGIN_NS = 1;
const CPU_END_NS = 2;
const BIGS = 3;

/** Thrown through the guest to end it. */
export class Stopped extends Error {
  /** Makes one. */
  constructor() {
    super("the guest is to end");
  }
}

/** The shared memory, as it is sent to the thread. */
export interface SharedBuffers {
  /** 32-bit words. */
  readonly words: SharedArrayBuffer;
  /** 64-bit words. */
  readonly bigs: SharedArrayBuffer;
}

/** One run's shared state, seen from either side. */
export class SharedState {
  /** To be handed to the other side. */
  readonly buffers: SharedBuffers;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bigs: BigInt64Array<SharedArrayBuffer>;

  /**
   * Looks at shared memory.
   *
   * @param buffers From the other side; new ones by default.
   */
  constructor(
    buffers: SharedBuffers = {
      words: new SharedArrayBuffer(WORDS * 4),
      bigs: new SharedArrayBuffer(BIGS * 8),
    },
  ) {
    this.buffers = buffers;
    this.#words = new Int32Array(buffers.words);
    this.#bigs = new BigInt64Array(buffers.bigs);
  }

  /** Whether the guest is to end. */
  get stopped(): boolean {
    return Atomics.load(this.#words, STOP) === 1;
  }

  /** Tells the guest to end. */
  stop(): void {
    Atomics.store(this.#words, STOP, 1);
  }

  /** The thread's id; 0 before it began. */
  get threadId(): number {
    return Atomics.load(this.#words, THREAD_ID);
  }

  set threadId(id: number) {
    Atomics.store(this.#words, THREAD_ID, id);
  }

  /** Size of the guest's memory when it last called a WASI function, in bytes. */
  get linearBytes(): number {
    return Number(Atomics.load(this.#bigs, LINEAR_BYTES));
  }

  set linearBytes(bytes: number) {
    Atomics.store(this.#bigs, LINEAR_BYTES, BigInt(bytes));
  }

  /** CPU time of the thread when the guest began, in nanoseconds. */
  get cpuBeginNs(): bigint {
    return Atomics.load(this.#bigs, CPU_BEGIN_NS);
  }

  set cpuBeginNs(ns: bigint) {
    Atomics.store(this.#bigs, CPU_BEGIN_NS, ns);
  }

  /** CPU time of the thread when the guest had ended, in nanoseconds; 0 before. */
  get cpuEndNs(): bigint {
    return Atomics.load(this.#bigs, CPU_END_NS);
  }

  set cpuEndNs(ns: bigint) {
    Atomics.store(this.#bigs, CPU_END_NS, ns);
  }
}
