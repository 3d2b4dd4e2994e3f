/**
 * Runs modules with random damage, each for a moment, on an engine in a process of its own; the test
 * beside it looks whether that process survives. Prints how far it is, and at the end one line of
 * JSON: {@link MutantReport}.
 *
 * Arguments: seed, first number, how many; and where they are to run compiled, a directory for that.
 *
 * @module
 */

import { Random } from "../../sandboxers/lifecycle/testing/random.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { CompiledCache } from "../../sandboxers/wasm/compiled/cache.ts";
import { openEngineCache } from "../../sandboxers/wasm/compiled/open.ts";
import { WasmEdgeEngine } from "../../sandboxers/wasm/wasmedge/engine.ts";
import { type GuestName, GUESTS_BUILD_DIR } from "../guests/build.ts";
import { OPEN } from "../../sandboxers/wasm/native/syscalls.ts";
import { waitFor } from "../support/wait.ts";
import { deepRecursion, memoryBomb, mutualRecursion, wideRecursion } from "./modules.ts";

/** What became of the modules. */
export interface MutantReport {
  /** Refused before they ran. */
  readonly refused: number;
  /** Ended by themselves. */
  readonly exited: number;
  /** Broke a rule of the machine. */
  readonly trapped: number;
  /** Still ran when their time was over. */
  readonly killed: number;
  /** Of those that ran, how many ran compiled code. */
  readonly compiled: number;
  /** Refused with something else than `InvalidArgument`: a few examples. */
  readonly strange: readonly string[];
  /** Descriptors and threads that are there at the end and were not at the beginning. */
  readonly left: number;
}

/** How long a module may run, in milliseconds. */
const RUN_MS = 30;
/** How many run at once. */
const AT_ONCE = 16;
/** How long a module may take to be compiled, those before it included, in milliseconds. */
const COMPILE_TIMEOUT_MS = 60_000;
/** How many run before it is counted what this process holds. */
const WARM_UP = 200;
/** How long threads may take to be gone, in milliseconds. */
const SETTLE_MS = 1_000;
/** After so many modules a line tells how far it is, for whom it may concern after a crash. */
const PROGRESS = 100;
const MIB = 1 << 20;
/** Where damage is most interesting: the sections before the code. */
const HEAD_BYTES = 256;

/** Guests that are damaged; to compile one takes a moment, so there it is the small ones. */
const GUESTS: readonly GuestName[] = ["args", "fs", "memory", "race"];
const SMALL_GUESTS: readonly GuestName[] = ["cat", "hello", "spin", "trap"];

/** The modules that are damaged. */
async function originals(small: boolean): Promise<Uint8Array<ArrayBuffer>[]> {
  const names = small ? SMALL_GUESTS : [...SMALL_GUESTS, ...GUESTS];
  return [
    ...await Promise.all(names.map((name) => Deno.readFile(`${GUESTS_BUILD_DIR}/${name}.wasm`))),
    deepRecursion(),
    mutualRecursion(),
    wideRecursion(),
    memoryBomb(),
  ];
}

/** One module with damage that its number decides. */
function mutant(
  random: Random,
  modules: readonly Uint8Array<ArrayBuffer>[],
): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(random.pick(modules));
  const wounds = random.chance(0.7) ? 1 : 2 + random.below(5);
  for (let i = 0; i < wounds; i++) bytes = damage(random, bytes);
  return bytes;
}

function damage(random: Random, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const end = random.chance(0.15) ? Math.min(bytes.length, HEAD_BYTES) : bytes.length;
  const at = Math.min(8 + random.below(Math.max(end - 8, 1)), bytes.length - 1);
  const length = 1 + random.below(16);
  switch (random.weighted([[0, 2], [1, 2], [2, 1], [3, 1], [4, 1], [5, 1], [6, 16]])) {
    case 0: // One of the lower bits: often another number, or an instruction of the same kind.
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(3));
      return bytes;
    case 1: // One byte.
      bytes[at] = random.below(256);
      return bytes;
    case 2: // A number as large as it gets.
      bytes.fill(0xff, at, at + length);
      return bytes;
    case 3: // Something left out.
      return joined(bytes.subarray(0, at), bytes.subarray(at + length));
    case 4: // Something twice.
      return joined(bytes.subarray(0, at + length), bytes.subarray(at));
    case 6:
      return otherInstruction(random, bytes, at);
    default: // The end missing.
      return bytes.slice(0, Math.max(at, 9));
  }
}

/** Bytes that are instructions of the same type, mostly: one in the place of another stays valid. */
const ALIKE: readonly (readonly [number, number])[] = [
  [0x46, 0x4f], // comparisons of i32
  [0x51, 0x5a], // comparisons of i64
  [0x6a, 0x78], // i32, two operands
  [0x7c, 0x8a], // i64, two operands
  [0xa0, 0xa6], // f64, two operands
  [0x0c, 0x0d], // branches
  [0x02, 0x03], // block and loop
];

/** Puts another instruction in the place of the next one that has others like it. */
function otherInstruction(
  random: Random,
  bytes: Uint8Array<ArrayBuffer>,
  from: number,
): Uint8Array<ArrayBuffer> {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    const alike = ALIKE.find(([first, last]) => byte >= first && byte <= last);
    if (alike === undefined) continue;
    const [first, last] = alike;
    bytes[at] = first + random.below(last - first + 1);
    return bytes;
  }
  return bytes;
}

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(head.length + tail.length);
  bytes.set(head);
  bytes.set(tail, head.length);
  return bytes;
}

/** What this process holds. */
function holds(): number {
  return [...Deno.readDirSync("/proc/self/fd"), ...Deno.readDirSync("/proc/self/task")].length;
}

type Outcome = "refused" | "exited" | "trapped" | "killed";

/** Runs numbered modules, several at once, and counts what becomes of them. */
class Trial {
  readonly tally = { refused: 0, exited: 0, trapped: 0, killed: 0, compiled: 0 };
  readonly strange: string[] = [];
  readonly #modules: readonly Uint8Array<ArrayBuffer>[];
  readonly #seed: number;
  readonly #cache: CompiledCache | undefined;
  readonly #engine: WasmEdgeEngine;
  readonly #nowhere: number;

  constructor(
    modules: readonly Uint8Array<ArrayBuffer>[],
    seed: number,
    cache: CompiledCache | undefined,
  ) {
    this.#modules = modules;
    this.#seed = seed;
    this.#cache = cache;
    this.#engine = new WasmEdgeEngine(cache === undefined ? {} : { compiled: cache });
    this.#nowhere = this.#engine.system.open("/dev/null", OPEN.readWrite, "the null device");
  }

  /** Runs the modules from one number to before another. */
  async run(from: number, end: number): Promise<void> {
    let next = from;
    const worker = async () => {
      while (next < end) {
        const number = next++;
        if (number % PROGRESS === 0) tell(`module ${number}`);
        await this.#one(number);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  async #one(number: number): Promise<void> {
    const bytes = mutant(new Random(this.#seed * 1_000_003 + number), this.#modules);
    try {
      this.tally[await this.#runOnce(bytes)]++;
    } catch (error) {
      this.tally.refused++;
      const { code, message } = SandboxError.from(error);
      const usual = code === "InvalidArgument" || code === "ResourceExhausted";
      if (!usual && this.strange.length < 5) this.strange.push(`${number}: ${code}: ${message}`);
    }
  }

  /** Loads a module, which has it compiled where the engine takes it, and waits for that. */
  async #compile(bytes: Uint8Array<ArrayBuffer>, cache: CompiledCache): Promise<void> {
    using interpreted = await this.#engine.load(bytes);
    const { digest } = interpreted;
    await waitFor("a compile to end", () => cache.state(digest) !== "compiling", {
      timeoutMs: COMPILE_TIMEOUT_MS,
    });
  }

  /** Loads and runs a module, for a moment at most. */
  async #runOnce(bytes: Uint8Array<ArrayBuffer>): Promise<Outcome> {
    if (this.#cache !== undefined) await this.#compile(bytes, this.#cache);
    using module = await this.#engine.load(bytes);
    using guest = await this.#engine.instantiate(module, {
      args: ["mutant"],
      env: [],
      preopens: [],
      stdin: this.#nowhere,
      stdout: this.#nowhere,
      stderr: this.#nowhere,
      memoryLimitBytes: 16 * MIB,
      engineBytesMax: 64 * MIB,
      descriptorsMax: 64,
    });
    await guest.start({ name: "mutant", steps: [] });
    if (module.compiled) this.tally.compiled++;
    const timer = setTimeout(() => guest.kill(), RUN_MS);
    const end = await guest.ended;
    clearTimeout(timer);
    return end.kind === "exit" ? "exited" : end.kind === "trap" ? "trapped" : "killed";
  }
}

function tell(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

async function main([seed, from, count, cacheDirectory]: readonly string[]): Promise<void> {
  const [first, end] = [Number(from), Number(from) + Number(count)];
  const cache = cacheDirectory === undefined ? undefined : await openEngineCache(cacheDirectory);
  const modules = await originals(cache !== undefined);
  const trial = new Trial(modules, Number(seed), cache);
  const warm = Math.min(first + WARM_UP, end);
  await trial.run(first, warm);
  const before = holds();
  await trial.run(warm, end);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const { tally, strange } = trial;
  const report: MutantReport = { ...tally, strange, left: Math.max(0, holds() - before) };
  tell(JSON.stringify(report));
}

if (import.meta.main) {
  await main(Deno.args);
  Deno.exit();
}
