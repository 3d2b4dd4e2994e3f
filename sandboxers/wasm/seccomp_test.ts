/**
 * Seccomp profiles as programs: what the kernel would answer is computed here, instruction by
 * instruction.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { SeccompAction, SeccompSpec } from "../lifecycle/spec.ts";
import { system } from "./fixture.ts";
import { SeccompCalls } from "./native/seccomp_calls.ts";
import { OWN_CALLS, SeccompFilters } from "./seccomp.ts";

const filters = new SeccompFilters(system);
const ALLOW: SeccompAction = { kind: "allow" };
const denied = (errno: number): SeccompAction => ({ kind: "deny", errno });

/** AUDIT_ARCH_* of this machine and of 32-bit x86. */
const ARCH = Deno.build.arch === "aarch64" ? 0xc00000b7 : 0xc000003e;
const OTHER_ARCH = 0x40000003;
/** Numbers of system calls. */
const NUMBERS = Deno.build.arch === "aarch64"
  ? { openat: 56, mkdirat: 34, socket: 198, clone: 220, write: 64, futex: 98, exit: 93 }
  : { openat: 257, mkdirat: 258, socket: 41, clone: 56, write: 1, futex: 202, exit: 60 };

/** A system call as a filter sees it. */
interface Call {
  readonly number: number;
  readonly args?: readonly bigint[];
  readonly arch?: number;
}

/** Runs a program of `struct sock_filter` on a call, as the kernel does. */
function run(program: Uint8Array, call: Call): string {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call.number, true);
  data.setUint32(4, call.arch ?? ARCH, true);
  call.args?.forEach((arg, i) => data.setBigUint64(16 + i * 8, arg, true));
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  let a = 0;
  for (let pc = 0; pc * 8 < program.length; pc++) {
    const at = pc * 8;
    const op = code.getUint16(at, true);
    const jt = code.getUint8(at + 2);
    const jf = code.getUint8(at + 3);
    const k = code.getUint32(at + 4, true);
    if (op === 0x20) a = data.getUint32(k, true); // ld [k]
    else if (op === 0x54) a = (a & k) >>> 0; // and
    else if (op === 0x05) pc += k; // ja
    else if (op === 0x15) pc += a === k ? jt : jf; // jeq
    else if (op === 0x25) pc += a > k ? jt : jf; // jgt
    else if (op === 0x35) pc += a >= k ? jt : jf; // jge
    else if (op === 0x06) return k === 0x7fff0000 ? "allow" : `errno ${k - 0x50000}`; // ret
    else throw new Error(`Unknown instruction ${op.toString(16)}`);
  }
  throw new Error("The program does not return");
}

/** What a profile answers. */
async function answer(spec: SeccompSpec, call: Call): Promise<string> {
  return run(await filters.compile(spec), call);
}

Deno.test("a profile allows what it names, and denies the rest with its error", async () => {
  const spec: SeccompSpec = {
    defaultAction: denied(38),
    rules: [
      { names: ["openat", "no_such_call"], action: ALLOW, args: [] },
      { names: ["mkdirat"], action: denied(13), args: [] },
    ],
  };
  assert.equal(await answer(spec, { number: NUMBERS.openat }), "allow");
  assert.equal(await answer(spec, { number: NUMBERS.mkdirat }), "errno 13");
  assert.equal(await answer(spec, { number: NUMBERS.socket }), "errno 38");
  assert.equal(await answer(spec, { number: 100_000 }), "errno 38");
});

Deno.test("a profile that allows by default denies what it names", async () => {
  const spec: SeccompSpec = {
    defaultAction: ALLOW,
    rules: [{ names: ["socket"], action: denied(1), args: [] }],
  };
  assert.equal(await answer(spec, { number: NUMBERS.openat }), "allow");
  assert.equal(await answer(spec, { number: NUMBERS.socket }), "errno 1");
});

Deno.test("calls of another machine are denied and end nobody", async () => {
  const spec: SeccompSpec = { defaultAction: ALLOW, rules: [] };
  const call = { number: NUMBERS.openat };
  assert.equal(await answer(spec, call), "allow");
  assert.equal(await answer(spec, { ...call, arch: OTHER_ARCH }), "errno 1");
});

Deno.test("a thread can always write, wait and end, whatever a profile says", async () => {
  const deny: SeccompSpec = { defaultAction: denied(1), rules: [] };
  const names = {
    defaultAction: ALLOW,
    rules: [{ names: OWN_CALLS, action: denied(1), args: [] }],
  };
  for (const number of [NUMBERS.write, NUMBERS.futex, NUMBERS.exit]) {
    assert.equal(await answer(deny, { number }), "allow");
    assert.equal(await answer(names, { number }), "allow");
  }
  assert.equal(await answer(deny, { number: NUMBERS.openat }), "errno 1");
});

Deno.test("conditions on different arguments all hold, those on one argument are alternatives", async () => {
  const equals = (index: number, value: string) =>
    ({ index, operator: "eq", value, valueTwo: "0" }) as const;
  const socket = (...args: bigint[]) => ({ number: NUMBERS.socket, args });
  const both: SeccompSpec = {
    defaultAction: denied(1),
    rules: [{ names: ["socket"], action: ALLOW, args: [equals(0, "2"), equals(1, "1")] }],
  };
  assert.equal(await answer(both, socket(2n, 1n)), "allow");
  assert.equal(await answer(both, socket(2n, 2n)), "errno 1");
  const either: SeccompSpec = {
    defaultAction: denied(1),
    rules: [{ names: ["socket"], action: ALLOW, args: [equals(0, "2"), equals(0, "10")] }],
  };
  for (const [family, expected] of [[2n, "allow"], [10n, "allow"], [1n, "errno 1"]] as const) {
    assert.equal(await answer(either, socket(family)), expected);
  }
});

Deno.test("every operator compares all 64 bits", async () => {
  const value = (1n << 40n) + 5n;
  const cases = {
    "ne": [[value, false], [5n, true]],
    "eq": [[value, true], [5n, false]],
    "lt": [[value - 1n, true], [value, false]],
    "le": [[value, true], [value + 1n, false]],
    "gt": [[value + 1n, true], [5n, false]],
    "ge": [[value, true], [value - 1n, false]],
  } as const;
  for (const operator of ["ne", "eq", "lt", "le", "gt", "ge"] as const) {
    const args = [{ index: 1, operator, value: `${value}`, valueTwo: "0" }];
    const rules = [{ names: ["clone"], action: ALLOW, args }];
    for (const [given, allowed] of cases[operator]) {
      const call = { number: NUMBERS.clone, args: [0n, given] };
      const found = await answer({ defaultAction: denied(1), rules }, call);
      assert.equal(found, allowed ? "allow" : "errno 1", `${operator} ${given}`);
    }
  }
  // As in containerd's default profile: no flags that make namespaces.
  const args = [{ index: 0, operator: "masked-eq", value: "2114060288", valueTwo: "0" }] as const;
  const spec: SeccompSpec = {
    defaultAction: denied(1),
    rules: [{ names: ["clone"], action: ALLOW, args }],
  };
  const clone = (flags: bigint) => answer(spec, { number: NUMBERS.clone, args: [flags] });
  assert.equal(await clone(0x3d0f00n), "allow");
  assert.equal(await clone(0x10000000n), "errno 1");
});

Deno.test("of two rules that fit the first counts", async () => {
  const spec: SeccompSpec = {
    defaultAction: denied(1),
    rules: [
      { names: ["openat"], action: denied(13), args: [] },
      { names: ["openat"], action: denied(2), args: [] },
    ],
  };
  assert.equal(await answer(spec, { number: NUMBERS.openat }), "errno 13");
});

Deno.test("what libseccomp does not take is refused by name", () => {
  using filter = new SeccompCalls(system).begin(denied(1));
  const argument = { index: 6, operator: "eq", value: "0", valueTwo: "0" } as const;
  assert.throws(() => filter.add("openat", ALLOW, [argument]), {
    name: "SandboxError",
    code: "InvalidArgument",
    message: /seccomp rule for "openat": EINVAL/,
  });
});

Deno.test("a profile is compiled once", async () => {
  const spec = (names: string[]): SeccompSpec => ({
    defaultAction: denied(1),
    rules: [{ names, action: ALLOW, args: [] }],
  });
  const first = await filters.compile(spec(["openat"]));
  assert.equal(await filters.compile(spec(["openat"])), first);
  assert.notEqual(await filters.compile(spec(["mkdirat"])), first);
  for (let i = 0; i < 20; i++) await filters.compile(spec([`call${i}`]));
  assert.notEqual(await filters.compile(spec(["openat"])), first);
});
