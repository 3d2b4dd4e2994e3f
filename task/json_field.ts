/**
 * Typed reading of JSON that came from outside. A field knows where it is, so that an error can
 * name it, what was found there and what is expected.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";

/** Most characters of a found value that an error shows. */
const MAX_SHOWN_CHARS = 80;

/** A JSON value with its place in a document. Every method throws `InvalidArgument` on a misfit. */
export class JsonField {
  readonly #document: string;
  readonly #path: string;
  readonly #value: unknown;

  private constructor(document: string, path: string, value: unknown) {
    this.#document = document;
    this.#path = path;
    this.#value = value;
  }

  /**
   * Parses a document.
   *
   * @param document What it is, for messages: `"/bundle/config.json"` or `exec spec`.
   * @param bytes The JSON text in UTF-8.
   * @throws SandboxError `InvalidArgument` when it is not JSON or not UTF-8.
   */
  static parse(document: string, bytes: Uint8Array): JsonField {
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return new JsonField(document, "", JSON.parse(text));
    } catch (error) {
      const problem = error instanceof SyntaxError
        ? `it is not JSON: ${error.message}`
        : "it is not UTF-8 text";
      throw new SandboxError("InvalidArgument", `cannot read ${document}: ${problem}`, {
        cause: error,
      });
    }
  }

  /** What was found there, as JSON without white space. */
  text(): string {
    return JSON.stringify(this.#value);
  }

  /** A member that must be there. */
  member(name: string): JsonField {
    const member = this.optional(name);
    if (member !== undefined) return member;
    throw new SandboxError(
      "InvalidArgument",
      `cannot read ${this.#document}: ${this.#join(name)} is missing`,
    );
  }

  /** A member that may be missing; `null` counts as missing, as in Go. */
  optional(name: string): JsonField | undefined {
    const value: unknown = Object.getOwnPropertyDescriptor(this.#object(), name)?.value;
    return value === undefined || value === null
      ? undefined
      : new JsonField(this.#document, this.#join(name), value);
  }

  /** A string without NUL, which no path, argument or variable can hold. */
  string(): string {
    const value = this.#value;
    if (typeof value !== "string") throw this.misfit("a string");
    if (value.includes("\0")) throw this.misfit("a string without NUL characters");
    return value;
  }

  /** An absolute path. */
  absolutePath(): string {
    const path = this.string();
    if (!path.startsWith("/")) throw this.misfit("an absolute path");
    return path;
  }

  /** An integer; one beyond 2^53 is rounded. */
  integer(): number {
    const value = this.#value;
    if (typeof value !== "number" || !Number.isInteger(value)) throw this.misfit("an integer");
    return value;
  }

  /** An unsigned 32-bit number, such as a user id. */
  uint32(): number {
    const value = this.integer();
    if (value < 0 || value > 0xffff_ffff) throw this.misfit("an integer from 0 to 4294967295");
    return value;
  }

  /** `true` or `false`. */
  boolean(): boolean {
    if (typeof this.#value !== "boolean") throw this.misfit("true or false");
    return this.#value;
  }

  /** The items of a list. */
  items(): JsonField[] {
    const value = this.#value;
    if (!Array.isArray(value)) throw this.misfit("a list");
    return value.map((item: unknown, index) =>
      new JsonField(this.#document, `${this.#path}[${index}]`, item)
    );
  }

  /** A list of strings. */
  strings(): string[] {
    return this.items().map((item) => item.string());
  }

  /** An object whose members are all strings. */
  stringMap(): Readonly<Record<string, string>> {
    const names = Object.keys(this.#object());
    return Object.fromEntries(names.map((name) => [name, this.member(name).string()]));
  }

  /**
   * The error that says that something else stands here.
   *
   * @param expected What should, such as `a string`.
   */
  misfit(expected: string): SandboxError {
    const shown = JSON.stringify(this.#value);
    const found = shown.length > MAX_SHOWN_CHARS ? `${shown.slice(0, MAX_SHOWN_CHARS)}...` : shown;
    const place = this.#path === "" ? "" : `${this.#path}: `;
    return new SandboxError(
      "InvalidArgument",
      `cannot read ${this.#document}: ${place}found ${found}, expected ${expected}`,
    );
  }

  #object(): object {
    const value = this.#value;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw this.misfit("an object");
    }
    return value;
  }

  #join(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }
}
