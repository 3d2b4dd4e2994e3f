/**
 * The launcher's verbs about processes, cgroups and the host, against the real thing (as root).
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { Launcher } from "./launcher.ts";
import { launcherError } from "./launcher_errors.ts";
import { assertFails, launcher, run, runDirectory, sleeper, until } from "./testing/fixture.ts";

const SIGTERM = 15;

Deno.test("a process is named by its number and its start, and nothing hits another one", async () => {
  await using process = await sleeper();
  const { identity } = process;
  const impostor = { pid: identity.pid, startTime: identity.startTime - 1 };
  assert.equal(await launcher.alive(identity), true);
  assert.equal(await launcher.alive(impostor), false);
  assert.equal(await launcher.signal(impostor, SIGTERM), false);
  await launcher.kill(impostor);
  await launcher.waitForEnd(impostor, AbortSignal.timeout(10_000));
  assert.equal(await launcher.processUsage(impostor), undefined);
  assert.equal(await launcher.alive(identity), true);
  assert.equal(await launcher.signal(identity, 0), true);
  assert.equal(await launcher.signal(identity, SIGTERM), true);
  assert.equal((await process.child.status).signal, "SIGTERM");
  assert.equal(await launcher.signal(identity, SIGTERM), false);
  assert.equal(await launcher.identify(identity.pid), undefined);
});

Deno.test("a process is killed, and its end is waited for", async () => {
  await using process = await sleeper();
  const waiting = launcher.waitForEnd(process.identity, new AbortController().signal);
  await launcher.kill(process.identity);
  await waiting;
  assert.equal((await process.child.status).signal, "SIGKILL");
});

Deno.test("waiting for a process can be given up", async () => {
  await using process = await sleeper();
  const given = new AbortController();
  const waiting = launcher.waitForEnd(process.identity, given.signal);
  given.abort();
  await assertFails(waiting, "Cancelled", /cannot wait for process \d+: cancelled/);
  assert.equal(await launcher.alive(process.identity), true);
});

Deno.test("what a process uses is counted", async () => {
  const self = await launcher.identify(Deno.pid);
  assert.ok(self);
  const usage = await launcher.processUsage(self);
  assert.ok(usage && usage.cpuNs > 0 && usage.threads > 1, JSON.stringify(usage));
  assert.ok(usage.residentBytes > 10_000_000, JSON.stringify(usage));
});

Deno.test("a cgroup is made, entered, limited, measured and removed in every hierarchy", async () => {
  const cgroup = `/quasaur-test-${crypto.randomUUID().slice(0, 8)}/leaf`;
  const [, parent = ""] = cgroup.split("/");
  try {
    await using process = await sleeper();
    await launcher.joinCgroup(cgroup, process.identity.pid);
    const groups = await Deno.readTextFile(`/proc/${process.identity.pid}/cgroup`);
    assert.match(groups, new RegExp(`${cgroup}$`, "m"));
    await launcher.limitCgroup(cgroup, {
      memoryBytes: 64 << 20,
      cpuQuotaUs: 50_000,
      cpuPeriodUs: 100_000,
      cpuShares: 512,
      pids: 20,
    });
    const usage = await launcher.cgroupUsage(cgroup);
    assert.equal(usage?.memoryLimitBytes, 64 << 20);
    assert.equal(usage.pids, 1);
    await assertFails(launcher.removeCgroup(cgroup), "FailedPrecondition", /processes are in it/);
  } finally {
    await launcher.removeCgroup(`/${parent}`);
  }
  assert.equal(await launcher.cgroupUsage(cgroup), undefined);
  await launcher.removeCgroup(cgroup);
});

Deno.test("a cgroup's path cannot lead out of the hierarchy", async () => {
  for (const path of ["/../x", "/a/../../x", "a", "/", "/a//b", "", "/a/./b"]) {
    await assertFails(launcher.removeCgroup(path), "InvalidArgument", /cgroup/);
  }
});

Deno.test("the host says what it has", async () => {
  const facts = await launcher.facts();
  const bootId = (await Deno.readTextFile("/proc/sys/kernel/random/boot_id")).trim();
  assert.equal(facts.bootId, bootId);
  assert.equal(facts.kernel, Deno.osRelease());
  assert.ok(facts.pageBytes >= 4096);
  const pvm = await Deno.stat("/sys/module/kvm_pvm").then(() => true, () => false);
  assert.equal(facts.kvmPvm, pvm);
});

Deno.test("a tree is measured without following links, up to a limit", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  await Deno.mkdir(`${path}/a/b`, { recursive: true });
  await Deno.writeFile(`${path}/a/b/file`, new Uint8Array(1000));
  await Deno.symlink("/usr", `${path}/a/link`);
  await Deno.symlink(`${path}/a`, `${path}/top`);
  const whole = { bytes: 1000, entries: 4, isPartial: false };
  assert.deepEqual(await launcher.treeSize(`${path}/a`), whole);
  assert.deepEqual(await launcher.treeSize(`${path}/top`), whole);
  assert.equal((await launcher.treeSize(`${path}/a`, { entries: 2 })).isPartial, true);
  assert.equal((await launcher.treeSize(`${path}/a`, { bytes: 999 })).isPartial, true);
  await assertFails(launcher.treeSize(`${path}/nowhere`), "NotFound", /ENOENT/);
});

Deno.test("a missing launcher is told with what to do", async () => {
  const missing = new Launcher("/nowhere/launcher");
  await assertFails(missing.facts(), "FailedPrecondition", /no host launcher.*deno task setup/);
});

Deno.test("wrong verbs and arguments are refused", async () => {
  for (
    const args of [
      [],
      ["nothing"],
      ["signal", "1", "1", "99"],
      ["signal", "-1", "5", "9"],
      [
        "alive",
        "1x",
        "5",
      ],
      ["netns", "must", "relative", "ip", ""],
      ["netns", "must", "/proc/self/ns/net", "sh", ""],
      // One more than the most, which has a single digit.
      ["vmm", "--directory=/", "--log=/nowhere/log", "--taps=9", "--", "/bin/true"],
    ]
  ) {
    await assertFails(launcher.run("cannot", args), "InvalidArgument", /./);
  }
});

Deno.test("an answer of the launcher is an error only where code and status agree", () => {
  const stderr = 'ip said this\nNotFound: cannot open "/a": ENOENT\n';
  const known = launcherError("cannot do it", { code: 69, stderr });
  assert.deepEqual([known.code, known.message], [
    "NotFound",
    'cannot open "/a": ENOENT: ip said this',
  ]);
  const other = launcherError("cannot do it", { code: 137, stderr });
  assert.equal(other.code, "Internal");
  assert.match(other.message, /^cannot do it: the host launcher ended with 137: ip said this; /);
  assert.ok(launcherError("x", { code: 1, stderr: "Strange: y" }) instanceof SandboxError);
});

Deno.test("a call that takes too long is given up and its process killed", async () => {
  await using process = await sleeper();
  const { pid, startTime } = process.identity;
  const call = launcher.run("cannot wait", ["wait", `${pid}`, `${startTime}`], { timeoutMs: 50 });
  await assertFails(call, "DeadlineExceeded", /no end after 50 ms/);
  await until("the launcher to end", async () => {
    const listing = await run("ps", "-eo", "args").catch(() => "");
    return !listing.includes(`wait ${pid} ${startTime}`);
  });
});
