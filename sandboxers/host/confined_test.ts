/**
 * What a confined program can still do: small shell programs look around in there (as root).
 *
 * @module
 */

import assert from "node:assert/strict";
import { type ConfinedProgram, spawnConfined } from "./confined.ts";
import { processNetns, runInNetns } from "./netns.ts";
import { assertFails, launcher, run, runDirectory, until } from "./testing/fixture.ts";

const UID = 1_879_048_191;
const GID = 1_879_048_190;

/** Runs a shell program confined, to its end, and gives back what it wrote. */
async function confinedOutput(
  script: string,
  options: Partial<ConfinedProgram> = {},
): Promise<string> {
  await using directory = await runDirectory();
  const log = `${directory.path}/log`;
  const process = await spawnConfined(launcher, {
    program: "/bin/sh",
    args: ["-c", script],
    directory: directory.path,
    log,
    user: { uid: UID, gid: GID },
    network: "host",
    cgroup: "",
    ...options,
  });
  await process.status;
  return await Deno.readTextFile(log);
}

Deno.test("a confined program has its user, no group, no capability and gets none", async () => {
  const text = await confinedOutput("cat /proc/self/status; cat /proc/self/limits");
  assert.match(text, new RegExp(`^Uid:(\\s+${UID}){4}$`, "m"));
  assert.match(text, new RegExp(`^Gid:(\\s+${GID}){4}$`, "m"));
  for (const name of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    assert.match(text, new RegExp(`^${name}:\\s+0000000000000000$`, "m"));
  }
  assert.match(text, /^NoNewPrivs:\s+1$/m);
  assert.match(text, /^Max core file size\s+0\s+0/m);
});

Deno.test("without another user it has no capabilities either, but those it keeps", async () => {
  const script = "grep Cap /proc/self/status";
  const none = await confinedOutput(script, { user: undefined });
  assert.match(none, /^CapEff:\s+0000000000000000$/m);
  assert.match(none, /^CapBnd:\s+0000000000000000$/m);
  const some = await confinedOutput(script, { user: undefined, capabilities: ["chown", "mknod"] });
  assert.match(some, /^CapEff:\s+0000000008000001$/m);
  assert.match(some, /^CapBnd:\s+0000000008000001$/m);
});

Deno.test("a program that needs all rights keeps those that this process has", async () => {
  const options = { user: undefined, capabilities: "all" } as const;
  const text = await confinedOutput("cat /proc/self/status; umask", options);
  const own = await Deno.readTextFile("/proc/self/status");
  for (const name of ["CapEff", "CapBnd"]) {
    const line = new RegExp(`^${name}:.*$`, "m");
    assert.equal(line.exec(text)?.[0], line.exec(own)?.[0]);
  }
  assert.match(text, /^NoNewPrivs:\s+1$/m);
  assert.match(text, /^0022$/m);
});

Deno.test("the kernel gives it huge pages, unless it is to have small ones", async () => {
  const script = "grep THP_enabled /proc/self/status";
  assert.match(await confinedOutput(script), /^THP_enabled:\s+1$/m);
  assert.match(await confinedOutput(script, { smallPages: true }), /^THP_enabled:\s+0$/m);
});

Deno.test("nothing is open in it but its log and its taps", async () => {
  const script = "ls -l /proc/$$/fd; true";
  const text = await confinedOutput(script, { network: { taps: 2 } });
  const open = [...text.matchAll(/(\d+) -> (.*)$/gm)].map(([, fd, file = ""]) =>
    `${fd} ${file.replace(/^\/run\/quasaur-test-[^/]+/, "DIR")}`
  );
  assert.deepEqual(open.sort(), [
    "0 /dev/null",
    "1 DIR/log",
    "10 /dev/net/tun",
    "11 /dev/net/tun",
    "2 DIR/log",
  ]);
});

Deno.test("its network is empty but for loopback and its taps, all of them down", async () => {
  const links = await confinedOutput("ip -o link", { network: { taps: 1 } });
  assert.match(links, /^1: lo: <LOOPBACK>/);
  assert.match(links, /^2: tap0: <BROADCAST,MULTICAST>/m);
  assert.equal(links.trim().split("\n").length, 2);
  const none = await confinedOutput("readlink /proc/self/ns/net", { network: { taps: 0 } });
  assert.notEqual(none.trim(), await Deno.readLink("/proc/self/ns/net"));
});

Deno.test("it starts in its directory and its cgroup, with little in its environment", async () => {
  const cgroup = `/quasaur-test-${crypto.randomUUID().slice(0, 8)}`;
  try {
    const script = "pwd; cat /proc/self/cgroup /proc/self/oom_score_adj; env; umask";
    const text = await confinedOutput(script, { cgroup, oomScoreAdjust: 400, env: ["A=b c"] });
    assert.match(text, /^\/run\/quasaur-test-/);
    assert.match(text, new RegExp(`:${cgroup}$`, "m"));
    assert.match(text, /^400$/m);
    assert.match(text, /^A=b c$/m);
    assert.doesNotMatch(text, /^HOME=/m);
    assert.match(text, /^0007$/m);
  } finally {
    await launcher.removeCgroup(cgroup);
  }
});

Deno.test("what it is, is known from the start, and a later process can end it", async () => {
  await using directory = await runDirectory();
  const process = await spawnConfined(launcher, {
    program: "/bin/sleep",
    args: ["600"],
    directory: directory.path,
    log: `${directory.path}/log`,
    user: undefined,
    network: "host",
    cgroup: "",
  });
  assert.deepEqual(await launcher.identify(process.identity.pid), process.identity);
  assert.match(await Deno.readTextFile(`/proc/${process.identity.pid}/cmdline`), /^\/bin\/sleep\0/);
  await launcher.kill(process.identity);
  assert.equal((await process.status).signal, "SIGKILL");
});

Deno.test("programs that others could change are refused, and missing ones named", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const copy = async (name: string, mode: number) => {
    await Deno.copyFile("/bin/true", `${path}/${name}`);
    await Deno.chmod(`${path}/${name}`, mode);
    return `${path}/${name}`;
  };
  const attempt = (program: string) =>
    spawnConfined(launcher, {
      program,
      args: [],
      directory: path,
      log: `${path}/log`,
      user: undefined,
      network: "host",
      cgroup: "",
    });
  const refused = /is not root's alone/;
  await assertFails(attempt(await copy("loose", 0o777)), "FailedPrecondition", refused);
  const owned = await copy("owned", 0o755);
  await Deno.chown(owned, UID, GID);
  await assertFails(attempt(owned), "FailedPrecondition", refused);
  await Deno.symlink(owned, `${path}/link`);
  await assertFails(attempt(`${path}/link`), "FailedPrecondition", refused);
  await Deno.mkdir(`${path}/open`);
  await Deno.chmod(`${path}/open`, 0o1777);
  await assertFails(attempt(await copy("open/p", 0o755)), "FailedPrecondition", refused);
  await assertFails(attempt(path), "FailedPrecondition", refused);
  await assertFails(attempt("true"), "InvalidArgument", /expected an absolute path/);
  await assertFails(attempt(`${path}/no`), "FailedPrecondition", /no such program/);
  await assertFails(attempt("/etc/passwd"), "PermissionDenied", /cannot execute/);
  assert.equal((await (await attempt(await copy("good", 0o755))).status).code, 0);
});

Deno.test("a log that is no plain file is refused", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  await Deno.writeTextFile(`${path}/other`, "");
  await Deno.symlink(`${path}/other`, `${path}/link`);
  await Deno.link(`${path}/other`, `${path}/second`);
  for (const name of ["link", "second", "."]) {
    const started = spawnConfined(launcher, {
      program: "/bin/true",
      args: [],
      directory: path,
      log: `${path}/${name}`,
      user: undefined,
      network: "host",
      cgroup: "",
    });
    await assert.rejects(started, /cannot open the log/);
  }
});

/** A program that starts a confined one, tells its identity, and waits. */
const PARENT = (diesWithParent: boolean, directory: string) => `
import { spawnConfined } from ${JSON.stringify(new URL("./confined.ts", import.meta.url).href)};
import { Launcher } from ${JSON.stringify(new URL("./launcher.ts", import.meta.url).href)};
const process = await spawnConfined(new Launcher(), {
  program: "/bin/sleep", args: ["600"], directory: ${JSON.stringify(directory)},
  log: ${JSON.stringify(`${directory}/log`)}, user: { uid: ${UID}, gid: ${GID} },
  network: { taps: 0 }, cgroup: "", diesWithParent: ${diesWithParent},
});
console.log(JSON.stringify(process.identity));
await new Promise(() => setInterval(() => {}, 1000));
`;

for (const dies of [true, false]) {
  Deno.test(`it ${dies ? "dies with" : "outlives"} the process that started it, as asked`, async () => {
    await using directory = await runDirectory();
    const parent = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--ext=ts", PARENT(dies, directory.path)],
      stdout: "piped",
    }).spawn();
    const reader = parent.stdout.getReader();
    const identity = JSON.parse(new TextDecoder().decode((await reader.read()).value));
    assert.equal(await launcher.alive(identity), true);
    parent.kill("SIGKILL");
    await parent.status;
    await reader.cancel();
    if (dies) {
      await until("its end", async () => !await launcher.alive(identity));
    } else {
      assert.equal(await launcher.alive(identity), true);
      await launcher.kill(identity);
    }
  });
}

Deno.test("who watches over it ends with it, and has no rights but to signal", async () => {
  await using directory = await runDirectory();
  const process = await spawnConfined(launcher, {
    program: "/bin/sleep",
    args: ["600"],
    directory: directory.path,
    log: `${directory.path}/log`,
    user: { uid: UID, gid: GID },
    network: { taps: 1 },
    cgroup: "",
    diesWithParent: true,
  });
  const watchers = async () => {
    const found: string[] = [];
    const own = await Deno.readLink(processNetns(process.identity.pid)).catch(() => "gone");
    for await (const { name } of Deno.readDir("/proc")) {
      const comm = await Deno.readTextFile(`/proc/${name}/comm`).catch(() => "");
      const netns = await Deno.readLink(`/proc/${name}/ns/net`).catch(() => "");
      if (comm === "quasaur-watch\n" && netns === own) found.push(name);
    }
    return found;
  };
  const [watcher = ""] = await watchers();
  const status = await Deno.readTextFile(`/proc/${watcher}/status`);
  assert.match(status, /^CapEff:\s+0000000000000020$/m);
  const open = await Array.fromAsync(Deno.readDir(`/proc/${watcher}/fd`), ({ name }) => name);
  assert.equal(open.length, 5, open.join());
  process.kill("SIGKILL");
  await process.status;
  await until("the watcher to end", async () => {
    return await Deno.stat(`/proc/${watcher}`).then(() => false, () => true);
  });
});

Deno.test("steps in network namespaces are run in order, and what fails is told", async () => {
  const name = `quasaur-${crypto.randomUUID().slice(0, 8)}`;
  await run("ip", "netns", "add", name);
  try {
    const netns = `/run/netns/${name}`;
    const ip = (...commands: string[]) => ({ netns, program: "ip", commands }) as const;
    const outputs = await runInNetns(launcher, "cannot", [
      ip("link set lo up"),
      { ...ip("link set nothing up", "link set lo mtu 1400"), isOptional: true },
      ip("link show lo", "route show table all"),
    ]);
    assert.equal(outputs.length, 3);
    const [link = "", routes = ""] = (outputs[2] ?? "").split("\n");
    assert.equal(JSON.parse(link)[0].mtu, 1400);
    assert.ok(JSON.parse(routes).length > 0);
    const failing = runInNetns(launcher, "cannot", [ip("link set nothing up")]);
    await assertFails(failing, "FailedPrecondition", /"ip" failed .*Cannot find device "nothing"/);
    const absent = { netns: `${netns}-not`, program: "ip", commands: ["link"] } as const;
    await assertFails(runInNetns(launcher, "cannot", [absent]), "NotFound", /ENOENT/);
    const other = { netns: "/proc/self/ns/uts", program: "ip", commands: ["link"] } as const;
    await assertFails(
      runInNetns(launcher, "cannot", [other]),
      "InvalidArgument",
      /no network name/,
    );
  } finally {
    await run("ip", "netns", "del", name);
  }
});
