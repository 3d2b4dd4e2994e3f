/**
 * The commands of QMP that we use, with their arguments and checked results. Source: QEMU's qapi/.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";

/** No arguments. */
export type NoArgs = Record<never, never>;

/** A block node to make. Only the drivers that we use. */
export type BlockNode =
  | {
    readonly driver: "file" | "host_device";
    readonly "node-name": string;
    readonly filename: string;
    readonly "read-only": boolean;
    readonly locking?: "on" | "off" | "auto";
  }
  | {
    readonly driver: "raw";
    readonly "node-name": string;
    readonly "read-only": boolean;
    readonly file: string;
    readonly size?: number;
  };

/** What there is to know of a block node. */
export interface BlockNodeInfo {
  /** Its name; empty where it has none. */
  readonly name: string;
  /** The file behind it. */
  readonly file: string;
  /** Whether it cannot be written to. */
  readonly readonly: boolean;
}

/** What a virtual device is made of; the driver decides which members there are. */
export interface DeviceArgs {
  /** QEMU's name of the kind of device. */
  readonly driver: string;
  /** Its id, unique in the machine. */
  readonly id: string;
  /** The bus that it is put on. */
  readonly bus?: string;
  /** Further members. */
  readonly [member: string]: string | number | boolean | undefined;
}

/** A capability of saving and loading. */
export interface MigrationCapability {
  /** QEMU's name. */
  readonly capability: "x-ignore-shared" | "mapped-ram" | "events";
  /** On or off. */
  readonly state: boolean;
}

/** Arguments of each command. */
interface Args {
  "qmp_capabilities": NoArgs;
  "quit": NoArgs;
  "stop": NoArgs;
  "cont": NoArgs;
  "query-status": NoArgs;
  "query-migrate": NoArgs;
  "query-memory-devices": NoArgs;
  "query-named-block-nodes": { readonly flat: true };
  "qom-list": { readonly path: string };
  "qom-get": { readonly path: string; readonly property: string };
  "blockdev-add": BlockNode;
  "blockdev-del": { readonly "node-name": string };
  "blockdev-reopen": { readonly options: readonly BlockNode[] };
  "device_add": DeviceArgs;
  "device_del": { readonly id: string };
  "object-add": Readonly<Record<string, string | number | boolean>>;
  "object-del": { readonly id: string };
  "migrate-set-capabilities": { readonly capabilities: readonly MigrationCapability[] };
  "migrate-set-parameters": {
    readonly "max-bandwidth": number;
    readonly "downtime-limit": number;
  };
  "migrate": { readonly uri: string };
  "migrate_cancel": NoArgs;
  /** A command for people, for what QMP has no other one. */
  "human-monitor-command": { readonly "command-line": string };
}

/** The name of a command. */
export type QmpCommand = keyof Args;

/** The arguments of a command. */
export type QmpArgs<C extends QmpCommand> = Args[C];

/** What a command answers; of those that are not named here nothing is read. */
interface Results {
  "query-status": { readonly status: string; readonly running: boolean };
  "query-migrate": { readonly status: string; readonly error: string };
  "query-memory-devices": readonly { readonly id: string; readonly bytes: number }[];
  "query-named-block-nodes": readonly BlockNodeInfo[];
  "qom-list": readonly string[];
  "qom-get": string;
  "human-monitor-command": string;
}

/** The result of a command. */
export type QmpResult<C extends QmpCommand> = C extends keyof Results ? Results[C] : undefined;

/** Most elements of a list that are read. */
const LIST_MAX = 10_000;

const READERS: { readonly [C in keyof Results]: (answer: unknown) => Results[C] } = {
  "query-status": (answer) => ({
    status: text(answer, "status"),
    running: member(answer, "running") === true,
  }),
  "query-migrate": (answer) => ({
    // Before the first migration the answer is empty.
    status: optionalText(answer, "status"),
    error: optionalText(answer, "error-desc"),
  }),
  "query-memory-devices": (answer) =>
    list(answer).map((device) => {
      const data = member(device, "data");
      return { id: optionalText(data, "id"), bytes: size(data, "size") };
    }),
  "query-named-block-nodes": (answer) =>
    list(answer).map((node) => ({
      name: optionalText(node, "node-name"),
      file: optionalText(node, "file"),
      readonly: member(node, "ro") === true,
    })),
  "qom-list": (answer) => list(answer).map((property) => text(property, "name")),
  "qom-get": plainText,
  "human-monitor-command": plainText,
};

/**
 * Checks what a command answered.
 *
 * @param command The command.
 * @param answer What came.
 * @throws {SandboxError} `Unavailable` where it is not what the command answers.
 */
export function readResult<C extends QmpCommand>(command: C, answer: unknown): QmpResult<C>;
export function readResult(command: QmpCommand, answer: unknown): unknown {
  if (!hasReader(command)) return undefined;
  try {
    return READERS[command](answer);
  } catch (thrown) {
    throw SandboxError.from(thrown, `cannot read QEMU's answer to "${command}"`, "Unavailable");
  }
}

function hasReader(command: QmpCommand): command is keyof Results {
  return Object.hasOwn(READERS, command);
}

function plainText(answer: unknown): string {
  if (typeof answer !== "string") throw unexpected("a text", answer);
  return answer;
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw unexpected("an object", value);
  }
  return Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
}

function text(value: unknown, name: string): string {
  const found = member(value, name);
  if (typeof found !== "string") throw unexpected(`a text in "${name}"`, found);
  return found;
}

function optionalText(value: unknown, name: string): string {
  const found = member(value, name);
  return typeof found === "string" ? found : "";
}

function size(value: unknown, name: string): number {
  const found = member(value, name);
  if (typeof found !== "number" || !Number.isSafeInteger(found) || found < 0) {
    throw unexpected(`a size in "${name}"`, found);
  }
  return found;
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw unexpected("a list", value);
  if (value.length > LIST_MAX) throw unexpected(`at most ${LIST_MAX} elements`, value.length);
  return value;
}

function unexpected(expected: string, found: unknown): SandboxError {
  const shown: Json = JSON.stringify(found)?.slice(0, 80) ?? "nothing";
  return new SandboxError("Unavailable", `expected ${expected}, found ${shown}`);
}
