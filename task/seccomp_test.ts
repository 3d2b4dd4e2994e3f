import assert from "node:assert/strict";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { SeccompSpec } from "../sandboxers/lifecycle/spec.ts";
import { JsonField } from "./json_field.ts";
import { decodeSeccomp } from "./seccomp.ts";

const NATIVE = Deno.build.arch === "aarch64" ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64";

function decode(profile: unknown): SeccompSpec {
  return decodeSeccomp(
    JsonField.parse("profile", new TextEncoder().encode(JSON.stringify(profile))),
  );
}

function isInvalid(profile: unknown, text: RegExp): void {
  assert.throws(() => decode(profile), (error: unknown) => {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, "InvalidArgument");
    assert.match(error.message, text);
    return true;
  });
}

Deno.test("a profile becomes a SeccompSpec", () => {
  const profile = {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: 38,
    architectures: [NATIVE, "SCMP_ARCH_X86"],
    flags: ["SECCOMP_FILTER_FLAG_LOG"],
    syscalls: [
      { names: ["read", "write"], action: "SCMP_ACT_ALLOW" },
      {
        names: ["clone"],
        action: "SCMP_ACT_ALLOW",
        args: [{ index: 0, value: 2114060288, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
      },
      { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38, args: null },
      { names: ["chmod"], action: "SCMP_ACT_ERRNO" },
    ],
  };
  const allow = { kind: "allow" } as const;
  assert.deepEqual(decode(profile), {
    defaultAction: { kind: "deny", errno: 38 },
    rules: [
      { names: ["read", "write"], action: allow, args: [] },
      {
        names: ["clone"],
        action: allow,
        args: [{ index: 0, operator: "masked-eq", value: "2114060288", valueTwo: "0" }],
      },
      { names: ["clone3"], action: { kind: "deny", errno: 38 }, args: [] },
      { names: ["chmod"], action: { kind: "deny", errno: 1 }, args: [] },
    ],
  });
});

Deno.test("a profile may have nothing but its default, and logging is allowing", () => {
  assert.deepEqual(decode({ defaultAction: "SCMP_ACT_LOG", architectures: [] }), {
    defaultAction: { kind: "allow" },
    rules: [],
  });
});

Deno.test("actions that would end a thread deny the call", () => {
  for (const name of ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"]) {
    const { defaultAction } = decode({ defaultAction: `SCMP_ACT_${name}` });
    assert.deepEqual(defaultAction, { kind: "deny", errno: 1 });
  }
});

Deno.test("what cannot be done is refused by name", () => {
  const rule = (more: object) => ({
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["read"], action: "SCMP_ACT_ALLOW", ...more }],
  });
  const argument = (more: object) =>
    rule({ args: [{ index: 0, value: 1, op: "SCMP_CMP_EQ", ...more }] });
  isInvalid({}, /defaultAction is missing/);
  for (const action of ["SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "ALLOW", ""]) {
    isInvalid({ defaultAction: action }, /defaultAction: found .*expected one of SCMP_ACT_ALLOW/);
    isInvalid(rule({ action }), /syscalls\[0\].action: .*no other process is asked/);
  }
  isInvalid(
    { defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_S390X"] },
    new RegExp(`architectures: .*expected a list that has ${NATIVE}, this machine`),
  );
  isInvalid(rule({ names: [] }), /syscalls\[0\].names: .*1 to 4096 names/);
  isInvalid(rule({ names: "read" }), /syscalls\[0\].names: .*expected a list/);
  isInvalid(rule({ action: "SCMP_ACT_ERRNO", errnoRet: 4_096 }), /errnoRet: found 4096/);
  isInvalid(argument({ index: 6 }), /args\[0\].index: found 6, expected an index from 0 to 5/);
  isInvalid(argument({ op: "SCMP_CMP_IN" }), /args\[0\].op: .*expected one of SCMP_CMP_NE/);
  isInvalid(argument({ value: -1 }), /args\[0\].value: found -1/);
  // More than a number of JavaScript holds: rounded it would be another condition.
  isInvalid(argument({ value: 2 ** 60 }), /args\[0\].value: found 11529215046068/);
});
