import assert from "node:assert/strict";
import type { JsonObject } from "../protocol/messages.ts";
import { operationTarget, planCreation } from "./creation.ts";

const CAPABILITIES = ["CAP_CHOWN", "CAP_KILL"];

interface Changes {
  readonly process?: JsonObject;
  readonly linux?: JsonObject;
  readonly mounts?: readonly JsonObject[];
}

function documentOf({ process, linux, mounts }: Changes = {}): JsonObject {
  return {
    ociVersion: "1.2.0",
    process: {
      args: ["sh"],
      env: ["PATH=/bin"],
      cwd: "/home",
      user: { uid: 0, gid: 0 },
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      ...process,
    },
    root: { path: "/run/rootfs/c1/root", readonly: true },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec"] },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755", "size=64k"] },
      ...mounts ?? [],
    ],
    linux: {
      namespaces: [{ type: "mount" }, { type: "cgroup" }, { type: "pid" }],
      cgroupsPath: "/containers/c1",
      resources: { devices: [{ allow: false, access: "rwm" }], pids: { limit: 10 } },
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      ...linux,
    },
  };
}

/** Operations on a target, as kind, texts and numbers. */
function operations(document: JsonObject, target: string): unknown[] {
  const plan = planCreation(document);
  assert.ok(plan !== undefined, "it is left to crun");
  const found: unknown[] = [];
  for (let index = 0; index < plan.texts.length / 4; index++) {
    if (operationTarget(plan, index) !== target) continue;
    const texts = plan.texts.slice(4 * index + 1, 4 * index + 4);
    found.push([...texts, ...plan.numbers.slice(6 * index, 6 * index + 6)]);
  }
  return found;
}

Deno.test("a plain container is built in an order in which everything finds its place", () => {
  const plan = planCreation(documentOf());
  assert.ok(plan !== undefined);
  const targets = plan.texts.filter((_text, index) => index % 4 === 0);
  assert.equal(plan.numbers.length, 6 * targets.length);
  assert.deepEqual([targets[0], targets[1]], ["/proc", "/dev"]);
  assert.deepEqual(targets.slice(-3), ["/home", "/proc/kcore", "/proc/sys"]);
  assert.deepEqual([plan.root, plan.readonly], ["/run/rootfs/c1/root", 1]);
  assert.deepEqual(operations(documentOf(), "/proc"), [["proc", "proc", "", 0, 10, 0, 0, 0, 0]]);
  assert.deepEqual(operations(documentOf(), "/dev"), [
    ["tmpfs", "tmpfs", "mode=755,size=64k", 0, 0, 0, 0, 0, 0],
  ]);
  assert.deepEqual(operations(documentOf(), "/dev/null"), [["", "", "", 2, 0o20666, 1, 3, 0, 0]]);
  assert.deepEqual(operations(documentOf(), "/dev/ptmx"), [["pts/ptmx", "", "", 3, 0, 0, 0, 0, 0]]);
});

Deno.test("a bind keeps the flags of its source, unless it is said to be writable", () => {
  const bind = (options: readonly string[]) =>
    operations(
      documentOf({ mounts: [{ destination: "/data", type: "bind", source: "/run/x", options }] }),
      "/data",
    );
  assert.deepEqual(bind(["rbind", "rprivate", "ro"]), [["/run/x", "", "", 1, 1, 0, 1, 0, 0]]);
  assert.deepEqual(bind(["bind", "rw", "nosuid"]), [["/run/x", "", "", 1, 2, 13, 0, 0, 0]]);
});

Deno.test("device nodes are the configuration's first, then those that all have", () => {
  const device = { path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: 0o600, gid: 5 };
  assert.deepEqual(operations(documentOf({ linux: { devices: [device] } }), "/dev/null"), [
    ["", "", "", 2, 0o20600, 1, 3, 0, 5],
    ["", "", "", 2, 0o20666, 1, 3, 0, 0],
  ]);
});

Deno.test("what is rare is left to crun", () => {
  const mount = (destination: string, type: string, options: readonly string[] = []) => ({
    mounts: [{ destination, type, source: "/x", options }],
  });
  const rare: readonly Changes[] = [
    { process: { terminal: true } },
    { process: { ioPriority: { class: "IOPRIO_CLASS_BE" } } },
    { process: { cwd: "/a/../b" } },
    { linux: { seccomp: { defaultAction: "SCMP_ACT_ALLOW" } } },
    { linux: { personality: { domain: "LINUX32" } } },
    { linux: { namespaces: [{ type: "mount" }, { type: "pid" }] } },
    {
      linux: {
        namespaces: [{ type: "mount" }, { type: "cgroup" }, {
          type: "pid",
          path: "/proc/7/ns/pid",
        }],
      },
    },
    { linux: { resources: { blockIO: { weight: 10 } } } },
    { linux: { resources: { cpu: { cpus: "0" } } } },
    { linux: { devices: [{ path: "/dev/a/b", type: "c", major: 1, minor: 3 }] } },
    { linux: { maskedPaths: ["/proc/../etc"] } },
    mount("/x", "nfs"),
    mount("/x", "tmpfs", ["ro"]),
    mount("/x", "tmpfs", ["tmpcopyup"]),
    mount("/x", "bind", ["rbind", "shared"]),
    mount("/x", "bind", ["rbind", "rro"]),
    mount("/x", "bind", ["rbind", "noatime"]),
    mount("/x/../y", "bind", ["rbind"]),
    mount("/dev", "bind", ["rbind"]),
  ];
  for (const changes of rare) {
    assert.equal(planCreation(documentOf(changes)), undefined, JSON.stringify(changes));
  }
});
