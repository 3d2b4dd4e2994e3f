/**
 * `linux.seccomp` of a config.json, as a SeccompSpec. Actions that would end a thread are turned
 * into errors: a guest is a thread of a process with other guests in it, and the kernel would end
 * them all, or this one without a word.
 *
 * Source: opencontainers/runtime-spec config-linux.md, section Seccomp.
 *
 * @module
 */

import type { SeccompAction, SeccompArgument, SeccompSpec } from "../sandboxers/lifecycle/spec.ts";
import type { JsonField } from "./json_field.ts";

const EPERM = 1;
/** Highest error number that the kernel gives. */
const ERRNO_MAX = 4_095;
const ARGUMENT_INDEX_MAX = 5;
/** Most rules of a profile, and most system calls that one of them names. */
const RULES_MAX = 4_096;

/** What the OCI specification calls the machine that this runs on. */
const NATIVE_ARCHITECTURE = Deno.build.arch === "aarch64"
  ? "SCMP_ARCH_AARCH64"
  : "SCMP_ARCH_X86_64";

const OPERATORS: Readonly<Record<string, SeccompArgument["operator"]>> = {
  SCMP_CMP_NE: "ne",
  SCMP_CMP_LT: "lt",
  SCMP_CMP_LE: "le",
  SCMP_CMP_EQ: "eq",
  SCMP_CMP_GE: "ge",
  SCMP_CMP_GT: "gt",
  SCMP_CMP_MASKED_EQ: "masked-eq",
};

/** LOG allows a call and notes it in the kernel's log; here it only allows. */
const ALLOWING: ReadonlySet<string> = new Set(["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"]);
const ENDING: ReadonlySet<string> = new Set([
  "SCMP_ACT_KILL",
  "SCMP_ACT_KILL_PROCESS",
  "SCMP_ACT_KILL_THREAD",
  "SCMP_ACT_TRAP",
]);

/** Profiles that are kept. */
const KEPT_MAX = 16;
/** Profiles by their text. Nearly all containers of a node bring the same one, of some 5 KiB. */
const kept = new Map<string, SeccompSpec>();

/**
 * Decodes a profile.
 *
 * @param seccomp The object.
 * @returns The profile; the same object for the same text, as long as it is kept.
 * @throws SandboxError `InvalidArgument` naming the field, what was found and what is expected.
 */
export function decodeSeccomp(seccomp: JsonField): SeccompSpec {
  const text = seccomp.text();
  const spec = kept.get(text) ?? decode(seccomp);
  // The one used last goes to the end; the first is the one to forget.
  kept.delete(text);
  kept.set(text, spec);
  const [oldest] = kept.keys();
  if (kept.size > KEPT_MAX && oldest !== undefined) kept.delete(oldest);
  return spec;
}

function decode(seccomp: JsonField): SeccompSpec {
  const architectures = seccomp.optional("architectures");
  const names = architectures?.strings() ?? [];
  if (architectures !== undefined && names.length > 0 && !names.includes(NATIVE_ARCHITECTURE)) {
    throw architectures.misfit(`a list that has ${NATIVE_ARCHITECTURE}, this machine`);
  }
  const rules = seccomp.optional("syscalls");
  const items = rules?.items() ?? [];
  if (rules !== undefined && items.length > RULES_MAX) {
    throw rules.misfit(`at most ${RULES_MAX} rules`);
  }
  return {
    defaultAction: decodeAction(seccomp, "defaultAction", "defaultErrnoRet"),
    rules: items.map(decodeRule),
  };
}

function decodeRule(rule: JsonField): SeccompSpec["rules"][number] {
  const names = rule.member("names");
  const list = names.strings();
  if (list.length === 0 || list.length > RULES_MAX) {
    throw names.misfit(`1 to ${RULES_MAX} names of system calls`);
  }
  return {
    names: list,
    action: decodeAction(rule, "action", "errnoRet"),
    args: (rule.optional("args")?.items() ?? []).map(decodeArgument),
  };
}

function decodeAction(parent: JsonField, name: string, errnoName: string): SeccompAction {
  const field = parent.member(name);
  const action = field.string();
  if (ALLOWING.has(action)) return { kind: "allow" };
  if (ENDING.has(action)) return { kind: "deny", errno: EPERM };
  if (action !== "SCMP_ACT_ERRNO") {
    throw field.misfit(
      `one of ${[...ALLOWING, "SCMP_ACT_ERRNO", ...ENDING].join(", ")}: ` +
        "no other process is asked about a guest's system calls",
    );
  }
  const errno = parent.optional(errnoName);
  const value = errno?.uint32() ?? EPERM;
  if (errno !== undefined && value > ERRNO_MAX) {
    throw errno.misfit(`an error number from 0 to ${ERRNO_MAX}`);
  }
  return { kind: "deny", errno: value };
}

function decodeArgument(argument: JsonField): SeccompArgument {
  const index = argument.member("index");
  if (index.uint32() > ARGUMENT_INDEX_MAX) throw index.misfit("an index from 0 to 5");
  const op = argument.member("op");
  const operator = OPERATORS[op.string()];
  if (operator === undefined) throw op.misfit(`one of ${Object.keys(OPERATORS).join(", ")}`);
  return {
    index: index.uint32(),
    operator,
    value: decodeValue(argument.optional("value")),
    valueTwo: decodeValue(argument.optional("valueTwo")),
  };
}

/** A 64-bit number. Beyond what JSON.parse keeps exactly it could mean another one: refused. */
function decodeValue(field: JsonField | undefined): string {
  const value = field?.integer() ?? 0;
  if (field !== undefined && (value < 0 || !Number.isSafeInteger(value))) {
    throw field.misfit("an integer from 0 to 9007199254740991");
  }
  return String(value);
}
