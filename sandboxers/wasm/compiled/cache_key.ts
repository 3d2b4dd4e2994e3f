/**
 * What compiled code depends on beside the module: a change of any of it makes it another code.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { CompileOptions } from "../wasmedge/compile_options.ts";

/** Raised when entries of an earlier version of this program must not be used any more. */
const FORMAT = 1;

/** What compiled code depends on beside the module. */
export interface CacheKeyParts {
  /** The engine's name and version, such as `wasmedge 0.17.1`. */
  readonly engine: string;
  /** How it is compiled. */
  readonly options: CompileOptions;
  /** See processor.ts. */
  readonly processor: string;
}

/** A key of the cache, without the module. */
export interface CacheKey {
  /** All parts; it stands in every entry, and is compared as a whole. */
  readonly text: string;
  /** Short and made of it: a part of file names. */
  readonly id: string;
}

/** Hexadecimal digits of {@link CacheKey.id}. */
const ID_LENGTH = 16;

/** Makes the key. Equal parts give equal keys. */
export function cacheKey({ engine, options, processor }: CacheKeyParts): CacheKey {
  const sorted = Object.entries(options).sort(([a], [b]) => a < b ? -1 : 1);
  const text = JSON.stringify({
    format: FORMAT,
    engine,
    options: Object.fromEntries(sorted),
    processor: sha256(processor),
  });
  return { text, id: sha256(text).slice(0, ID_LENGTH) };
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
