/**
 * What is stored of a container's volumes for the next sandboxer process.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { BoundSource } from "../../host/bound_sources.ts";

/** A source that a container sees. */
export interface SourceRecord extends BoundSource {
  /** The volume in the guest that it is copied to; null for one in the shared tree. */
  readonly volume: string | null;
  /** Whether the container's writing is read back. */
  readonly isResult: boolean;
}

/**
 * Reads a record.
 *
 * @throws {SandboxError} `DataLoss` where it is none.
 */
export function parseVolumeRecord(record: Json): readonly SourceRecord[] {
  if (typeof record === "object" && record !== null && "sources" in record) {
    const { sources } = record;
    if (Array.isArray(sources) && sources.every(isSource)) return sources;
  }
  throw new SandboxError("DataLoss", "cannot read what is known of a container's volumes");
}

function isSource(value: unknown): value is SourceRecord {
  if (typeof value !== "object" || value === null) return false;
  const { name, source, readonly, volume, isResult } = {
    name: undefined,
    source: undefined,
    readonly: undefined,
    volume: undefined,
    isResult: undefined,
    ...value,
  };
  return typeof name === "string" && typeof source === "string" &&
    typeof readonly === "boolean" && typeof isResult === "boolean" &&
    (volume === null || typeof volume === "string");
}
