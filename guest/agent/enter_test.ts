import assert from "node:assert/strict";
import type { JsonObject } from "../protocol/messages.ts";
import { containerFilter, enterFailure, filterFlags, planEnter } from "./enter.ts";
import { EACCES, EINVAL, ENOENT, ESRCH } from "./errno.ts";

const NO_FILTER = { program: null, flags: 0 };

const PROCESS: JsonObject = {
  args: ["sh", "-c", "true"],
  env: ["PATH=/bin", "A=b"],
  cwd: "/tmp",
  user: { uid: 5, gid: 6, additionalGids: [7, 8], umask: 0o77 },
  capabilities: {
    bounding: ["CAP_CHOWN", "CAP_AUDIT_READ"],
    effective: ["CAP_CHOWN"],
    permitted: ["CAP_SETFCAP"],
    ambient: ["CAP_CHECKPOINT_RESTORE"],
  },
  rlimits: [{ type: "RLIMIT_NOFILE", soft: 10, hard: 20 }, {
    type: "RLIMIT_CORE",
    soft: 18446744073709551615,
    hard: 18446744073709551615,
  }],
  noNewPrivileges: true,
  oomScoreAdj: -5,
};

Deno.test("a process of containerd is put into numbers", () => {
  const program = new ArrayBuffer(16);
  assert.deepEqual(planEnter(PROCESS, { program, flags: 4 }), {
    args: ["sh", "-c", "true"],
    env: ["PATH=/bin", "A=b"],
    cwd: "/tmp",
    uid: 5,
    gid: 6,
    groups: [7, 8],
    umask: 0o77,
    oomScoreAdj: -5,
    noNewPrivileges: 1,
    limits: [7, 10, 20, 4, -1, -1],
    // Bounding, effective, permitted, inheritable, ambient.
    capabilities: [1, 32, 1, 0, 2 ** 31, 0, 0, 0, 0, 256],
    filter: program,
    filterFlags: 4,
  });
});

Deno.test("what the quick way does not know is left to crun", () => {
  const others: Record<string, JsonObject> = {
    terminal: { terminal: true },
    "scheduling class": { ioPriority: { class: "IOPRIO_CLASS_IDLE" } },
    "a field of a later specification": { later: 1 },
    "an unknown capability": { capabilities: { bounding: ["CAP_LATER"] } },
    "who could look into the agent": { capabilities: { bounding: ["CAP_SYS_PTRACE"] } },
    "an unknown limit": { rlimits: [{ type: "RLIMIT_LATER", soft: 1, hard: 1 }] },
    "no program": { args: [] },
    "an empty program": { args: [""] },
    "arguments that are no texts": { args: [1] },
    "a relative directory": { cwd: "tmp" },
    "capabilities of the container": { capabilities: null },
    "the container's environment": { env: null },
  };
  for (const [what, changes] of Object.entries(others)) {
    assert.equal(planEnter({ ...PROCESS, ...changes }, NO_FILTER), undefined, what);
  }
  assert.ok(planEnter({ ...PROCESS, apparmorProfile: "x", terminal: false }, NO_FILTER));
});

Deno.test("a filter's flags are those of its configuration, and crun's where there are none", () => {
  assert.equal(filterFlags({}), 4);
  assert.equal(filterFlags({ flags: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"] }), 3);
  assert.equal(filterFlags({ flags: ["SECCOMP_FILTER_FLAG_LATER"] }), undefined);
  assert.equal(filterFlags({ listenerPath: "/x" }), undefined);
});

Deno.test("a container whose filter is not there is for crun", () => {
  const program = new ArrayBuffer(8);
  const seccomp = { linux: { seccomp: { defaultAction: "SCMP_ACT_ALLOW" } } };
  assert.deepEqual(containerFilter({ linux: {} }, () => program), NO_FILTER);
  assert.deepEqual(containerFilter(seccomp, () => program), { program, flags: 4 });
  assert.equal(containerFilter(seccomp, () => undefined), undefined);
  assert.equal(
    containerFilter({ linux: { personality: { domain: "LINUX32" } } }, () => program),
    undefined,
  );
});

Deno.test("a step that failed is told in the words of runc", () => {
  const told = (step: number, errno: number, program = "sh") => {
    const { code, message } = enterFailure(
      "cannot run",
      { args: [program], cwd: "/d" },
      step,
      errno,
    );
    return `${code} ${message}`;
  };
  assert.equal(
    told(8, ENOENT),
    'InvalidArgument cannot run: exec: "sh": executable file not found in $PATH',
  );
  assert.equal(
    told(8, ENOENT, "/x"),
    'InvalidArgument cannot run: exec: "/x": stat /x: no such file or directory',
  );
  assert.equal(told(8, EACCES), 'InvalidArgument cannot run: exec: "sh": permission denied');
  assert.equal(
    told(4, ENOENT),
    'InvalidArgument cannot run: chdir to cwd ("/d") set in config.json failed: ' +
      "no such file or directory",
  );
  assert.equal(told(3, ESRCH), "FailedPrecondition cannot run: the container is not running");
  assert.equal(told(6, EINVAL), "Internal cannot run: cannot take its capabilities: EINVAL");
});
