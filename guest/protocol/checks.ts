/**
 * Whether JSON is what `messages.ts` says. The host checks every result and event of a guest field
 * by field, as a guest may be hostile; the agent checks arguments only so far that a mistake is
 * answered and not stumbled over. Shapes are data; fields that a shape does not name are left out of
 * what the host takes.
 *
 * @module
 */

import {
  AGENT_ERROR_CODES,
  type AgentErrorCode,
  type AgentEvent,
  type AgentFailure,
  type RequestName,
  type Requests,
  VOLUME_READ_BYTES_MAX,
} from "./messages.ts";
import { Violation } from "./violation.ts";

/** A value that passed, or what is wrong with it. */
type Checked = { readonly value: unknown } | { readonly problem: string };

/** Checks one value; `at` names its place for messages. */
type Shape = (value: unknown, at: string) => Checked;

const STRING_LENGTH_MAX = 4096;
const LIST_LENGTH_MAX = 65_536;

function wrong(at: string, expected: string, value: unknown): Checked {
  const found = value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
  return { problem: `${at} is ${found}, expected ${expected}` };
}

/** A string of bounded length. */
function text(lengthMax: number): Shape {
  return (value, at) => {
    if (typeof value !== "string") return wrong(at, "a string", value);
    if (value.length > lengthMax) {
      return { problem: `${at} has ${value.length} characters, at most ${lengthMax} are possible` };
    }
    return { value };
  };
}

/** A safe integer in a range. */
function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Shape {
  return (value, at) =>
    Number.isSafeInteger(value) && typeof value === "number" && value >= min && value <= max
      ? { value }
      : { problem: `${at} is ${JSON.stringify(value)?.slice(0, 40)}, expected ${min} to ${max}` };
}

/** A number, not negative. */
const amount: Shape = (value, at) =>
  typeof value === "number" && Number.isFinite(value) && value >= 0
    ? { value }
    : wrong(at, "a number from 0 on", value);

const flag: Shape = (value, at) =>
  typeof value === "boolean" ? { value } : wrong(at, "true or false", value);

/** One of some strings. */
function oneOf(...names: readonly string[]): Shape {
  return (value, at) =>
    typeof value === "string" && names.includes(value)
      ? { value }
      : wrong(at, `one of ${names.join(", ")}`, value);
}

/** A list. */
function list(item: Shape, lengthMax: number = LIST_LENGTH_MAX): Shape {
  return (value, at) => {
    if (!Array.isArray(value)) return wrong(at, "a list", value);
    if (value.length > lengthMax) {
      return { problem: `${at} has ${value.length} items, at most ${lengthMax} are possible` };
    }
    const items: unknown[] = [];
    for (const [i, one] of value.entries()) {
      const checked = item(one, `${at}[${i}]`);
      if ("problem" in checked) return checked;
      items.push(checked.value);
    }
    return { value: items };
  };
}

/** An object with given fields; others are left out. */
function object(
  fields: Readonly<Record<string, Shape>>,
  optional: Readonly<Record<string, Shape>> = {},
): Shape {
  const names = Object.entries(fields);
  const optionalNames = Object.entries(optional);
  return (value, at) => {
    if (!isObject(value)) return wrong(at, "an object", value);
    const made: Record<string, unknown> = {};
    for (const [name, shape] of names) {
      if (!Object.hasOwn(value, name)) return { problem: `${at}.${name} is missing` };
      const checked = shape(value[name], `${at}.${name}`);
      if ("problem" in checked) return checked;
      made[name] = checked.value;
    }
    for (const [name, shape] of optionalNames) {
      if (!Object.hasOwn(value, name) || value[name] === undefined) continue;
      const checked = shape(value[name], `${at}.${name}`);
      if ("problem" in checked) return checked;
      made[name] = checked.value;
    }
    return { value: made };
  };
}

/** Objects told apart by their `kind`. */
function kinds(shapes: Readonly<Record<string, Shape>>): Shape {
  return (value, at) => {
    if (!isObject(value)) return wrong(at, "an object", value);
    const { kind } = value;
    const shape = typeof kind === "string" && Object.hasOwn(shapes, kind)
      ? shapes[kind]
      : undefined;
    if (shape === undefined) {
      return wrong(`${at}.kind`, `one of ${Object.keys(shapes).join(", ")}`, kind);
    }
    const checked = shape(value, at);
    if ("problem" in checked || !isObject(checked.value)) return checked;
    return { value: { kind, ...checked.value } };
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Any object, as it is. */
const anyObject: Shape = (value, at) => isObject(value) ? { value } : wrong(at, "an object", value);

/** An object with strings only. */
const strings: Shape = (value, at) => {
  if (!isObject(value)) return wrong(at, "an object", value);
  for (const [name, one] of Object.entries(value)) {
    if (typeof one !== "string") return wrong(`${at}.${name}`, "a string", one);
  }
  return { value };
};

const name = text(256);
const nonEmpty: Shape = (value, at) =>
  value === "" ? { problem: `${at} is empty` } : name(value, at);
const pid = integer(0, 0x7fff_ffff);
const streamId = integer(1, 0x7fff_ffff);
const size = integer(0, 0xffff);
const bytes = integer(0);
const empty = object({});

const stdio = object({}, {
  stdin: streamId,
  stdout: streamId,
  stderr: streamId,
  terminal: object({ columns: size, rows: size }),
});

const hello = object({
  protocol: integer(0),
  agent: name,
  kernel: name,
  warnings: list(text(STRING_LENGTH_MAX), 256),
});

const exit = object({
  container: name,
  exec: name,
  status: integer(0, 255),
  atMs: amount,
  oom: flag,
  signaled: flag,
});

const usage = object({
  container: name,
  cpuUs: amount,
  memoryBytes: amount,
  inactiveFileBytes: amount,
  pids: integer(0),
}, { memoryLimitBytes: amount });

const guestUsage = object({
  memoryTotalBytes: amount,
  memoryAvailableBytes: amount,
  load: amount,
  cpuUs: amount,
  containers: list(usage, 4096),
});

const inventory = object({
  containers: list(
    object({
      container: name,
      state: oneOf("created", "running", "paused", "stopped"),
      processes: list(object({ exec: name, pid, stdio }), 4096),
    }),
    4096,
  ),
  lastStream: integer(0, 0x7fff_ffff),
});

const RESULTS: Readonly<Record<RequestName, Shape>> = {
  hello,
  setup: empty,
  renew: empty,
  rehearse: empty,
  setTime: empty,
  mountShared: empty,
  volumeSync: empty,
  volumeRead: object({ data: text(Math.ceil(VOLUME_READ_BYTES_MAX / 3) * 4), sizeBytes: bytes }),
  createContainer: object({ pid }),
  startContainer: empty,
  exec: object({ pid }),
  kill: empty,
  resize: empty,
  pause: empty,
  resume: empty,
  update: empty,
  pids: object({ pids: list(pid) }),
  deleteContainer: empty,
  usage: guestUsage,
  inventory,
  acknowledgeExit: empty,
  online: object({ cpus: integer(0, 0xffff) }),
  quiesce: empty,
  powerOff: empty,
};

const event = kinds({
  ready: object({ hello }),
  exit: object({ exit }),
  oom: object({ container: name }),
  log: object({ level: oneOf("warn", "error"), message: text(64 * 1024) }),
});

const failure = object({ code: text(64), message: text(STRING_LENGTH_MAX) });

const anyText = text(Number.MAX_SAFE_INTEGER);
const anyList = list(anyObject);
const container = object({ container: nonEmpty });
const process = { container: nonEmpty, exec: name };

const volumeEntry = kinds({
  file: object({
    path: anyText,
    mode: integer(0),
    uid: integer(0),
    gid: integer(0),
    data: anyText,
    offset: bytes,
    last: flag,
  }),
  directory: object({ path: anyText, mode: integer(0), uid: integer(0), gid: integer(0) }),
  link: object({ path: anyText, target: anyText }),
  gone: object({ path: anyText }),
});

const ARGUMENTS: Readonly<Record<RequestName, Shape>> = {
  hello: empty,
  setup: object({
    timeMs: amount,
    seed: anyText,
    hostname: anyText,
    machineId: anyText,
    interfaces: anyList,
    routes: anyList,
    neighbours: anyList,
    files: object({ hosts: anyText, hostname: anyText, resolvConf: anyText }),
    shmBytes: bytes,
    sysctls: strings,
  }),
  renew: object({ timeMs: amount, seed: anyText, machineId: anyText }),
  rehearse: object({ container: flag }),
  setTime: object({ timeMs: amount }),
  mountShared: object({ tag: nonEmpty }),
  volumeSync: object({ volume: nonEmpty, entries: list(volumeEntry) }),
  volumeRead: object({
    volume: nonEmpty,
    path: anyText,
    offset: bytes,
    length: integer(0, VOLUME_READ_BYTES_MAX),
  }),
  createContainer: object({
    id: nonEmpty,
    config: anyObject,
    rootfs: kinds({
      disk: object({ serial: nonEmpty, fsType: oneOf("erofs", "ext4") }),
      shared: object({ path: anyText }),
    }),
    mounts: list(kinds({
      shared: anyObject,
      volume: anyObject,
      memory: anyObject,
      shm: anyObject,
      podFile: anyObject,
    })),
    pidNamespace: oneOf("own", "pod"),
    stdio,
  }),
  startContainer: container,
  exec: object({ container: nonEmpty, exec: nonEmpty, process: anyObject, stdio }),
  kill: object({ ...process, signal: integer(0, 64) }, { all: flag }),
  resize: object({ ...process, columns: size, rows: size }),
  pause: container,
  resume: container,
  update: object({ container: nonEmpty, resources: anyObject }),
  pids: container,
  deleteContainer: container,
  usage: empty,
  inventory: empty,
  acknowledgeExit: object(process),
  online: empty,
  quiesce: empty,
  powerOff: empty,
};

/** Whether a name is a request's. */
export function isRequestName(name: string): name is RequestName {
  return Object.hasOwn(ARGUMENTS, name);
}

/**
 * What is wrong with a request's arguments.
 *
 * @param op The request.
 * @param args What came.
 * @returns For people; undefined where nothing is wrong.
 */
export function checkArguments(op: RequestName, args: unknown): string | undefined {
  const checked = ARGUMENTS[op](args, "args");
  return "problem" in checked ? checked.problem : undefined;
}

/**
 * A result of the guest with nothing in it but what belongs there.
 *
 * @param op The request.
 * @param result What came.
 * @throws {Violation} Where it is not one.
 */
export function checkResult<K extends RequestName>(op: K, result: unknown): Requests[K]["result"] {
  // The shape is that of the result, field by field.
  return take(RESULTS[op], result, `result of ${op}`) as Requests[K]["result"];
}

/**
 * An event of the guest with nothing in it but what belongs there.
 *
 * @param value What came.
 * @throws {Violation} Where it is not one.
 */
export function checkEvent(value: unknown): AgentEvent {
  // As above.
  return take(event, value, "event") as AgentEvent;
}

/**
 * A failure of the guest; a code that is not known becomes `Internal`.
 *
 * @param value What came.
 * @throws {Violation} Where it is not one.
 */
export function checkFailure(value: unknown): AgentFailure {
  // As above.
  const { code, message } = take(failure, value, "failure") as {
    readonly code: string;
    readonly message: string;
  };
  return { code: isErrorCode(code) ? code : "Internal", message };
}

function isErrorCode(code: string): code is AgentErrorCode {
  return (AGENT_ERROR_CODES as readonly string[]).includes(code);
}

function take(shape: Shape, value: unknown, what: string): unknown {
  const checked = shape(value, what);
  if ("problem" in checked) throw new Violation(checked.problem);
  return checked.value;
}
