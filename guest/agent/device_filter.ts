/**
 * Which devices a container may use, as a program for the kernel: OCI's rules, the last one that
 * fits decides, behind those that every container has anyway.
 *
 * Source: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE; the same rules and the same order as crun's
 * (create_dev_bpf in its cgroup-resources.c), so that a container gets the same from both.
 *
 * @module
 */

import type { Json, JsonObject } from "../protocol/messages.ts";
import { isObject, textAt } from "./json_values.ts";

/** A rule. */
interface Rule {
  readonly allow: boolean;
  /** `c`, `b`, or `a` for both. */
  readonly type: string;
  /** -1 for any. */
  readonly major: number;
  /** -1 for any. */
  readonly minor: number;
  /** Of `r`, `w` and `m` (mknod). */
  readonly access: string;
}

/** What every container may use: any node may be made, and these devices be opened. */
const ALWAYS: readonly Rule[] = [
  rule(10, 200, "rwm"), // net/tun
  rule(5, 2, "rwm"), // ptmx
  rule(136, -1, "rwm"), // pts/*
  rule(5, 1, "rwm"), // console
  rule(1, 9, "rwm"), // urandom
  rule(1, 5, "rwm"), // zero
  rule(5, 0, "rwm"), // tty
  rule(1, 7, "rwm"), // full
  rule(1, 8, "rwm"), // random
  rule(1, 3, "rwm"), // null
  { ...rule(-1, -1, "m"), type: "b" },
  rule(-1, -1, "m"),
];

/** Bits of what is to be done with a device, and of its type. */
const ACCESS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ACCESS_ALL = 7;
const TYPE: Readonly<Record<string, number>> = { b: 1, c: 2 };

/** Codes of instructions (linux/bpf.h), and the registers that the program uses. */
const LOAD_WORD = 0x61;
const AND = 0x54;
const SHIFT_RIGHT = 0x74;
const COPY = 0xbc;
const SET = 0xb7;
const JUMP_UNLESS = 0x55;
const JUMP_UNLESS_REGISTER = 0x5d;
const EXIT = 0x95;
const RESULT = 0;
const CONTEXT = 1;
const TYPE_REGISTER = 2;
const ACCESS_REGISTER = 3;
const MAJOR_REGISTER = 4;
const MINOR_REGISTER = 5;

/** Instructions that a program may have; the kernel takes more. */
const INSTRUCTIONS_MAX = 4096;

/** code, destination, source, offset, number */
type Instruction = readonly [number, number, number, number, number];

function rule(major: number, minor: number, access: string): Rule {
  return { allow: true, type: "c", major, minor, access };
}

/**
 * The program for a container's devices.
 *
 * @param rules OCI's `linux.resources.devices`.
 * @returns undefined where a rule is not one that is understood here.
 */
export function deviceFilter(rules: readonly Json[]): ArrayBuffer | undefined {
  const wanted: Rule[] = [];
  for (const each of rules) {
    const read = isObject(each) ? readRule(each) : undefined;
    if (read === undefined) return undefined;
    // The last one decides, so that it comes first.
    wanted.unshift(read);
  }
  const program: Instruction[] = [
    [LOAD_WORD, TYPE_REGISTER, CONTEXT, 0, 0],
    [AND, TYPE_REGISTER, 0, 0, 0xffff],
    [LOAD_WORD, ACCESS_REGISTER, CONTEXT, 0, 0],
    [SHIFT_RIGHT, ACCESS_REGISTER, 0, 0, 16],
    [LOAD_WORD, MAJOR_REGISTER, CONTEXT, 4, 0],
    [LOAD_WORD, MINOR_REGISTER, CONTEXT, 8, 0],
  ];
  let isDecided = false;
  for (const each of [...ALWAYS, ...wanted]) {
    const tests = testsOf(each);
    program.push(...tests, ...decide(each.allow));
    // The kernel refuses what can never be reached.
    isDecided = tests.length === 0;
    if (isDecided) break;
  }
  if (!isDecided) program.push(...decide(false));
  return program.length > INSTRUCTIONS_MAX ? undefined : encode(program);
}

function readRule(object: JsonObject): Rule | undefined {
  const { allow, major = -1, minor = -1 } = object;
  const type = textAt(object, "type") ?? "a";
  if (typeof major !== "number" || typeof minor !== "number") return undefined;
  if (!/^[abc]$/.test(type) || !Number.isInteger(major) || !Number.isInteger(minor)) {
    return undefined;
  }
  const access = textAt(object, "access") ?? "";
  return {
    allow: allow === true,
    type,
    major: Math.max(-1, major),
    minor: Math.max(-1, minor),
    access,
  };
}

function decide(allow: boolean): Instruction[] {
  return [[SET, RESULT, 0, 0, allow ? 1 : 0], [EXIT, 0, 0, 0, 0]];
}

/** What leads past the decision where the rule does not fit. */
function testsOf({ type, major, minor, access }: Rule): Instruction[] {
  let mask = 0;
  for (const letter of access) mask |= ACCESS[letter] ?? 0;
  const tests: Instruction[] = [];
  if (type !== "a") tests.push([JUMP_UNLESS, TYPE_REGISTER, 0, 0, TYPE[type] ?? 0]);
  if (mask !== ACCESS_ALL) {
    tests.push(
      [COPY, CONTEXT, ACCESS_REGISTER, 0, 0],
      [AND, CONTEXT, 0, 0, mask],
      [JUMP_UNLESS_REGISTER, CONTEXT, ACCESS_REGISTER, 0, 0],
    );
  }
  if (major >= 0) tests.push([JUMP_UNLESS, MAJOR_REGISTER, 0, 0, major]);
  if (minor >= 0) tests.push([JUMP_UNLESS, MINOR_REGISTER, 0, 0, minor]);
  return tests.map(([code, destination, source, offset, number], index) => {
    const isJump = code === JUMP_UNLESS || code === JUMP_UNLESS_REGISTER;
    // Past the other tests and the two instructions of the decision.
    return [code, destination, source, isJump ? tests.length - index + 1 : offset, number];
  });
}

function encode(program: readonly Instruction[]): ArrayBuffer {
  const buffer = new ArrayBuffer(program.length * 8);
  const view = new DataView(buffer);
  let at = 0;
  for (const [code, destination, source, offset, number] of program) {
    view.setUint8(at, code);
    view.setUint8(at + 1, destination | (source << 4));
    view.setInt16(at + 2, offset, true);
    view.setInt32(at + 4, number, true);
    at += 8;
  }
  return buffer;
}
