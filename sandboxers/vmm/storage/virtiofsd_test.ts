/**
 * The file server for real, without a machine: started, taken over, ended.
 */

import assert from "node:assert/strict";
import { launcher } from "../../host/testing/fixture.ts";
import { namesIn, rejects, workspace } from "./testing/fixture.ts";
import { VirtiofsServer } from "./virtiofsd.ts";

const { signal } = new AbortController();

function optionsIn(path: string) {
  return {
    launcher,
    directory: `${path}/share`,
    socket: `${path}/share.sock`,
    log: `${path}/virtiofsd.log`,
    client: { gid: 1_879_048_192 },
    cgroup: "",
  };
}

async function placeWithShare() {
  const work = await workspace();
  await Deno.mkdir(`${work.path}/share`);
  return work;
}

/** A line of a process's status, such as `CapEff`. */
async function statusOf(pid: number, name: string): Promise<string | undefined> {
  const text = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
  return text.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1)
    .trim();
}

Deno.test("a file server has few rights, and its socket is for its client only", async () => {
  await using work = await placeWithShare();
  const server = await VirtiofsServer.start(optionsIn(work.path), signal);
  const { pid } = server.identity;
  assert.equal(await statusOf(pid, "Name"), "virtiofsd");
  assert.equal(await statusOf(pid, "CapBnd"), "0000000000000000");
  const capabilities = BigInt(`0x${await statusOf(pid, "CapPrm")}`);
  assert.equal(capabilities & (1n << 27n | 1n << 21n), 0n, "no CAP_MKNOD, no CAP_SYS_ADMIN");
  assert.equal(await statusOf(pid, "NoNewPrivs"), "1");
  assert.equal(await statusOf(pid, "Seccomp"), "2");
  const { mode, uid, gid } = await Deno.stat(server.socket);
  assert.deepEqual([(mode ?? 0) & 0o777, uid, gid], [0o660, 0, 1_879_048_192]);
  await server.stop();
  await server.stop();
  assert.ok(!await launcher.alive(server.identity));
  assert.deepEqual(await namesIn(work.path), ["share"]);
});

Deno.test("the next sandboxer takes a file server over, and finds one that has ended gone", async () => {
  await using work = await placeWithShare();
  const { record, socket } = await VirtiofsServer.start(optionsIn(work.path), signal);
  const adopted = await VirtiofsServer.adopt(launcher, JSON.parse(JSON.stringify(record)));
  assert.equal(adopted?.socket, socket);
  await adopted.stop();
  assert.equal(await VirtiofsServer.adopt(launcher, record), undefined);
  // Another process with the number is not taken for it, and what is left of the old one goes.
  await Deno.writeTextFile(socket, "");
  const log = `${work.path}/virtiofsd.log`;
  const other = { ...adopted.identity, pid: Deno.pid, socket, log };
  assert.equal(await VirtiofsServer.adopt(launcher, other), undefined);
  await assert.rejects(Deno.stat(socket), Deno.errors.NotFound);
  assert.equal(await VirtiofsServer.adopt(launcher, null), undefined);
});

Deno.test("one that was killed can be started again at the same place", async () => {
  await using work = await placeWithShare();
  const first = await VirtiofsServer.start(optionsIn(work.path), signal);
  await launcher.kill(first.identity);
  await first.stop();
  const second = await VirtiofsServer.start(optionsIn(work.path), signal);
  assert.ok(await launcher.alive(second.identity));
  await second.stop();
});

Deno.test("a file server that cannot be started says why", async () => {
  await using work = await placeWithShare();
  const options = optionsIn(work.path);
  await rejects(
    VirtiofsServer.start({ ...options, directory: `${work.path}/missing` }, signal),
    "FailedPrecondition",
    /missing": it ended with 1: .*(missing|does not exist|No such file)/,
  );
  await rejects(
    VirtiofsServer.start({ ...options, program: "/usr/libexec/no-virtiofsd" }, signal),
    "FailedPrecondition",
    /no-virtiofsd/,
  );
  await rejects(
    VirtiofsServer.start(options, AbortSignal.abort()),
    "Cancelled",
    /share/,
  );
  assert.ok(!(await namesIn(work.path)).some((name) => name.includes(".sock")));
});
