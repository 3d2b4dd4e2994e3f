import assert from "node:assert/strict";
import { Launcher } from "../../host/launcher.ts";
import { noLog } from "../../log.ts";
import { namesIn, until, workspace } from "./testing/fixture.ts";
import { TreeServers } from "./tree_servers.ts";

const launcher = new Launcher();
const signal = AbortSignal.timeout(60_000);

/** Where tests work: a directory to share, and the notes. */
async function place() {
  const work = await workspace();
  await Deno.mkdir(`${work.path}/share`);
  const connect = (path: string) => Deno.connect({ transport: "unix", path });
  const options = { launcher, directory: `${work.path}/notes`, connect, log: noLog };
  const sockets = `${work.path}/sockets`;
  await Deno.mkdir(sockets);
  const serve = (servers: TreeServers, name: string) =>
    servers.start({
      directory: `${work.path}/share`,
      socket: `${sockets}/${name}.sock`,
      log: `${sockets}/${name}.sock.log`,
      cgroup: "",
    }, signal);
  return { work, sockets, serve, newServers: () => new TreeServers(options) };
}

Deno.test("a file server is noted while it runs", async () => {
  const { work, sockets, serve, newServers } = await place();
  await using _ = work;
  const server = await serve(newServers(), "a");
  assert.equal((await namesIn(`${work.path}/notes`)).length, 1);
  await server.stop();
  await server.stop();
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
  assert.deepEqual(await namesIn(sockets), []);
});

Deno.test("a file server that was not noted in time is ended too", async () => {
  const { work, sockets, serve, newServers } = await place();
  await using _ = work;
  const earlier = newServers();
  await serve(earlier, "kept");
  await serve(earlier, "left");
  for (const name of await namesIn(`${work.path}/notes`)) {
    const note = `${work.path}/notes/${name}`;
    if ((await Deno.readTextFile(note)).includes("left.sock")) await Deno.remove(note);
  }
  const servers = newServers();
  const [note = ""] = await namesIn(`${work.path}/notes`);
  const record = JSON.parse(await Deno.readTextFile(`${work.path}/notes/${note}`));
  const kept = await servers.adopt(record);
  await servers.recover(sockets);
  assert.deepEqual((await namesIn(sockets)).filter((name) => name.startsWith("left")), []);
  await until(async () => !await isServed(`${sockets}/left.sock`), "it ends");
  assert.ok(await isServed(`${sockets}/kept.sock`), "the other goes on");
  await kept?.stop();
});

/** Whether a process names a socket as its own. */
async function isServed(socket: string): Promise<boolean> {
  for await (const { name } of Deno.readDir("/proc")) {
    const text = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (/^\d+$/.test(name) && text.includes(`--socket-path=${socket}`)) return true;
  }
  return false;
}

Deno.test("what nobody has taken over is ended, the others go on", async () => {
  const { work, sockets, serve, newServers } = await place();
  await using _ = work;
  const earlier = newServers();
  const kept = await serve(earlier, "kept");
  await serve(earlier, "left");
  const servers = newServers();
  const adopted = await servers.adopt(kept.record);
  await servers.recover(sockets);
  assert.equal(adopted?.socket, kept.socket);
  const names = await namesIn(sockets);
  assert.deepEqual(names.filter((name) => name.startsWith("left")), []);
  assert.ok(names.includes("kept.sock"));
  await adopted.stop();
  assert.deepEqual(await namesIn(sockets), []);
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
});

Deno.test("a note that cannot be read is removed", async () => {
  const { work, sockets, newServers } = await place();
  await using _ = work;
  await Deno.mkdir(`${work.path}/notes`);
  await Deno.writeTextFile(`${work.path}/notes/a.json`, "{");
  await newServers().recover(sockets);
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
});

Deno.test("a file server that does not start leaves no note", async () => {
  const { work, newServers } = await place();
  await using _ = work;
  await assert.rejects(
    newServers().start({
      directory: `${work.path}/missing`,
      socket: `${work.path}/a.sock`,
      log: `${work.path}/a.log`,
      cgroup: "",
    }, signal),
  );
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
});
