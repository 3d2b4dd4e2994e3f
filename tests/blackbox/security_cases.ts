/**
 * Cases about the security context of a container: users, capabilities, a root file system that
 * cannot be written to, system calls, masked paths, process ids. They ask for what runc gives.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import type { Cri, PodOptions, SecurityOptions } from "../support/cri.ts";
import type { Target } from "./target.ts";

/** CAP_NET_ADMIN (linux/capability.h). */
const NET_ADMIN = 12n;
/** CAP_CHOWN. */
const CHOWN = 0n;

/** Registers the cases. */
export function securityCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, abilities } = target;
  if (!abilities.shell) return;

  /** What a shell script prints in a container of its own. */
  async function output(cri: Cri, script: string, security: SecurityOptions): Promise<string[]> {
    await using pod = await cri.runPod({ handler });
    const command = ["/bin/sh", "-c", script];
    const { stdout, stderr } = await pod.runContainer({ image, command, security });
    return [...stdout, ...stderr];
  }

  test("a container runs as its user, with its groups", async ({ cri }) => {
    const security = { user: 1_234, group: 2_345, groups: [3_456] };
    const lines = await output(cri, "id -u; id -g; id -G", security);
    assert.deepEqual(lines.slice(0, 2), ["1234", "2345"]);
    assert.deepEqual(lines[2]?.split(" ").sort(), ["2345", "3456"]);
  });

  test("a container has the capabilities that it was given", async ({ cri }) => {
    const script = "grep -E '^Cap(Eff|Bnd)' /proc/self/status";
    const sets = async (security: SecurityOptions) =>
      (await output(cri, script, security)).map((line) => BigInt(`0x${line.split("\t")[1]}`));
    const has = (set: bigint | undefined, capability: bigint) =>
      ((set ?? 0n) >> capability & 1n) === 1n;
    const [usual] = await sets({});
    assert.ok(has(usual, CHOWN) && !has(usual, NET_ADMIN));
    const [changed, bounding] = await sets({
      addCapabilities: ["NET_ADMIN"],
      dropCapabilities: ["CHOWN"],
    });
    assert.ok(!has(changed, CHOWN) && has(changed, NET_ADMIN));
    assert.equal(bounding, changed);
  });

  test("a root file system that cannot be written to is not", async ({ cri }) => {
    const script = "echo x >/new && echo written; echo y >/dev/null && echo null; pwd";
    const lines = await output(cri, script, { readonlyRootfs: true });
    assert.ok(!lines.includes("written"), lines.join("; "));
    assert.ok(lines.some((line) => /Read-only file system/.test(line)), lines.join("; "));
    assert.ok(lines.includes("null"), lines.join("; "));
  });

  test("masked paths are empty", async ({ cri }) => {
    const script = "cat /some/where/note | wc -c";
    const lines = await output(cri, script, { maskedPaths: ["/some/where/note"] });
    assert.deepEqual(lines.map((line) => line.trim()), ["0"]);
  });

  test("processes of a container that must gain no rights know it", async ({ cri }) => {
    const lines = await output(cri, "grep NoNewPrivs /proc/self/status; echo end", {
      noNewPrivileges: true,
    });
    assert.deepEqual(lines, ["NoNewPrivs:\t1", "end"]);
  });

  test("the runtime's profile of system calls is in force", async ({ cri }) => {
    const security = { runtimeDefaultSeccomp: true };
    const lines = await output(cri, "grep ^Seccomp: /proc/self/status", security);
    assert.deepEqual(lines, ["Seccomp:\t2"]);
  });

  const processes = async (cri: Cri, processIds: PodOptions["processIds"]) => {
    await using pod = await cri.runPod({ handler, ...processIds && { processIds } });
    const sleeper = { name: "sleeper", image, command: ["/bin/sleep", "4321"] };
    await pod.startContainer(sleeper);
    const command = ["/bin/sh", "-c", "ps | grep -c '[4]321'"];
    return (await pod.runContainer({ name: "looker", image, command })).stdout;
  };

  test("containers see each other's processes only where the pod shares them", async ({ cri }) => {
    assert.deepEqual(await processes(cri, "container"), ["0"]);
    assert.deepEqual(await processes(cri, "pod"), ["1"]);
  });

  test("containers of a pod share its hostname, its memory files and its loopback", async ({ cri }) => {
    await using pod = await cri.runPod({ handler, network: "pod" });
    const run = (name: string, script: string) =>
      pod.runContainer({ name, image, command: ["/bin/sh", "-c", script] });
    const first = await run("first", "hostname; echo shared >/dev/shm/note");
    const second = await run("second", "hostname; cat /dev/shm/note");
    assert.deepEqual(first.stdout, [pod.config.metadata?.name]);
    assert.deepEqual(second.stdout, [pod.config.metadata?.name, "shared"]);
  });
}
