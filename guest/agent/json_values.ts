/**
 * Reading fields of JSON whose shape nobody promised.
 *
 * @module
 */

import type { Json, JsonObject } from "../protocol/messages.ts";

/** Whether a value is an object. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object under a key; an empty one where there is none. */
export function objectAt(parent: JsonObject, key: string): JsonObject {
  const value = parent[key];
  return isObject(value) ? value : {};
}

/** A list under a key; an empty one where there is none. */
export function listAt(parent: JsonObject, key: string): readonly Json[] {
  const value = parent[key];
  return isList(value) ? value : [];
}

/** Text under a key; undefined where there is none. */
export function textAt(parent: JsonObject, key: string): string | undefined {
  const value = parent[key];
  return typeof value === "string" ? value : undefined;
}

/** An object without some of its fields. */
export function without(object: JsonObject, keys: readonly string[]): Record<string, Json> {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}
