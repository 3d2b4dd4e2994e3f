import assert from "node:assert/strict";
import { deviceFilter } from "./device_filter.ts";

/** What is asked of a filter; the numbers are the kernel's (bpf_cgroup_dev_ctx). */
interface Question {
  readonly type: "b" | "c";
  readonly access: "r" | "w" | "rw" | "m";
  readonly major: number;
  readonly minor: number;
}

/** Runs a program as the kernel would. */
function decide(program: ArrayBuffer, { type, access, major, minor }: Question): boolean {
  const view = new DataView(program);
  let bits = 0;
  for (const letter of access) bits |= { m: 1, r: 2, w: 4 }[letter] ?? 0;
  const context = [(type === "b" ? 1 : 2) | (bits << 16), major, minor];
  const registers = new Array<number>(11).fill(0);
  const get = (register: number) => registers[register] ?? 0;
  for (let at = 0; at < program.byteLength; at += 8) {
    const code = view.getUint8(at);
    const destination = view.getUint8(at + 1) & 15;
    const source = view.getUint8(at + 1) >> 4;
    const offset = view.getInt16(at + 2, true);
    const number = view.getInt32(at + 4, true);
    if (code === 0x95) return get(0) === 1;
    if (code === 0x61) registers[destination] = context[offset / 4] ?? 0;
    else if (code === 0x54) registers[destination] = get(destination) & number;
    else if (code === 0x74) registers[destination] = get(destination) >>> number;
    else if (code === 0xbc) registers[destination] = get(source);
    else if (code === 0xb7) registers[destination] = number;
    else if (code === 0x55) at += get(destination) === number ? 0 : 8 * offset;
    else if (code === 0x5d) at += get(destination) === get(source) ? 0 : 8 * offset;
    else assert.fail(`unknown instruction ${code}`);
  }
  return assert.fail("it does not end");
}

function filter(rules: Parameters<typeof deviceFilter>[0]): (question: Question) => boolean {
  const program = deviceFilter(rules);
  assert.ok(program !== undefined);
  return (question) => decide(program, question);
}

const DENY = { allow: false, access: "rwm" };

Deno.test("a container that asks for no device has those that all have, and may make nodes", () => {
  const allows = filter([DENY]);
  assert.equal(allows({ type: "c", access: "rw", major: 1, minor: 3 }), true);
  assert.equal(allows({ type: "c", access: "rw", major: 136, minor: 77 }), true);
  assert.equal(allows({ type: "b", access: "m", major: 254, minor: 0 }), true);
  assert.equal(allows({ type: "b", access: "r", major: 254, minor: 0 }), false);
  assert.equal(allows({ type: "c", access: "r", major: 1, minor: 1 }), false);
  assert.equal(allows({ type: "b", access: "rw", major: 1, minor: 3 }), false);
});

Deno.test("of several rules the last one that fits decides, for what it says", () => {
  const allows = filter([
    DENY,
    { allow: true, type: "c", major: 10, minor: 229, access: "rwm" },
    { allow: true, type: "b", major: 8, access: "r" },
    { allow: false, type: "b", major: 8, minor: 1, access: "rwm" },
  ]);
  assert.equal(allows({ type: "c", access: "rw", major: 10, minor: 229 }), true);
  assert.equal(allows({ type: "c", access: "rw", major: 10, minor: 228 }), false);
  assert.equal(allows({ type: "b", access: "r", major: 8, minor: 5 }), true);
  assert.equal(allows({ type: "b", access: "rw", major: 8, minor: 5 }), false);
  assert.equal(allows({ type: "b", access: "r", major: 8, minor: 1 }), false);
});

Deno.test("a rule for everything ends the program", () => {
  const all = deviceFilter([DENY, { allow: true, access: "rwm" }]);
  const allows = filter([DENY, { allow: true, access: "rwm" }]);
  assert.equal(allows({ type: "b", access: "rw", major: 254, minor: 0 }), true);
  assert.ok((all?.byteLength ?? 0) < (deviceFilter([DENY, DENY])?.byteLength ?? 0) + 16);
  assert.equal(filter([])({ type: "b", access: "r", major: 8, minor: 0 }), false);
});

Deno.test("what is no rule is not guessed at", () => {
  assert.equal(deviceFilter([{ allow: true, type: "x", access: "r" }]), undefined);
  assert.equal(deviceFilter([{ allow: true, major: "8", access: "r" }]), undefined);
  assert.equal(deviceFilter(["all"]), undefined);
});
