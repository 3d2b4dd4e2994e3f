/**
 * Reading of OCI's JSON documents whose fields are handed on: objects keep what is not known here.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Json } from "../lifecycle/spec.ts";

/** A JSON object. */
export type JsonObject = { readonly [key: string]: Json };

/** Numbers from here on stand for a negative one in 64 bits: `unlimited` is written as 2^64 - 1. */
const SIGN_BIT = 2n ** 63n;
/** The largest number below 2^63 that JavaScript has. */
const LARGEST = 9_223_372_036_854_774_784;

/**
 * Parses a document. Numbers of 64 bits that JavaScript cannot hold become others that mean the same
 * to an OCI runtime: 2^64 - 1 becomes -1.
 *
 * @param text The document.
 * @param name What it is, for messages.
 * @throws {SandboxError} `InvalidArgument` where it is no JSON object, or a number cannot be handed on.
 */
export function parseJsonObject(text: string, name: string): JsonObject {
  let value: Json;
  try {
    // JSON.parse gives nothing but JSON; its own type does not say so.
    value = JSON.parse(text, (_key, item: Json, context?: { readonly source?: string }) => {
      const source = context?.source ?? "";
      return typeof item === "number" && !Number.isSafeInteger(item) && /^-?\d+$/.test(source)
        ? wrap(BigInt(source), name)
        : item;
    });
  } catch (error) {
    if (error instanceof SandboxError) throw error;
    throw new SandboxError("InvalidArgument", `cannot read ${name}: it is not JSON`, {
      cause: error,
    });
  }
  if (isObject(value)) return value;
  throw new SandboxError("InvalidArgument", `cannot read ${name}: it is no object`);
}

function wrap(value: bigint, name: string): number {
  if (value > 0n && value < SIGN_BIT) return Math.min(Number(value), LARGEST);
  const negative = Number(BigInt.asIntN(64, value));
  if (value < 2n * SIGN_BIT && Number.isSafeInteger(negative)) return negative;
  throw new SandboxError(
    "InvalidArgument",
    `cannot read ${name}: the number ${value} cannot be handed on exactly`,
  );
}

/** Whether a value is a JSON object. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A member that is an object; an empty one where it is missing or null. */
export function objectOf(parent: JsonObject, name: string): JsonObject {
  const value = parent[name];
  if (value === undefined || value === null) return {};
  if (isObject(value)) return value;
  throw misfit(name, value, "an object");
}

/** The items of a member that is a list; none where it is missing or null. */
export function itemsOf(parent: JsonObject, name: string): readonly Json[] {
  const value = parent[name];
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw misfit(name, value, "a list");
}

/** A list of objects. */
export function objectsOf(parent: JsonObject, name: string): readonly JsonObject[] {
  return itemsOf(parent, name).map((item) => {
    if (isObject(item)) return item;
    throw misfit(name, item, "objects");
  });
}

/** A list of strings. */
export function stringsOf(parent: JsonObject, name: string): readonly string[] {
  return itemsOf(parent, name).map((item) => {
    if (typeof item === "string") return item;
    throw misfit(name, item, "strings");
  });
}

/** A member that is a string; empty where it is missing or null. */
export function stringOf(parent: JsonObject, name: string): string {
  const value = parent[name];
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  throw misfit(name, value, "a string");
}

/** A member that is a number; undefined where it is missing or null. */
export function numberOf(parent: JsonObject, name: string): number | undefined {
  const value = parent[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number") return value;
  throw misfit(name, value, "a number");
}

/** The object without some of its members. */
export function without(object: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

/** The object with only some of its members, those that it has. */
export function only(object: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => names.includes(name)));
}

function misfit(name: string, value: Json, expected: string): SandboxError {
  const shown = JSON.stringify(value).slice(0, 80);
  return new SandboxError("InvalidArgument", `${name}: found ${shown}, expected ${expected}`);
}
