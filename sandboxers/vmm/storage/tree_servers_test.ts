import assert from "node:assert/strict";
import { Launcher } from "../../host/launcher.ts";
import { noLog } from "../../log.ts";
import { namesIn, workspace } from "./testing/fixture.ts";
import { TreeServers } from "./tree_servers.ts";

const launcher = new Launcher();
const signal = AbortSignal.timeout(60_000);

/** Where tests work: a directory to share, and the notes. */
async function place() {
  const work = await workspace();
  await Deno.mkdir(`${work.path}/share`);
  const options = { launcher, directory: `${work.path}/notes`, log: noLog };
  const serve = (servers: TreeServers, name: string) =>
    servers.start({
      directory: `${work.path}/share`,
      socket: `${work.path}/${name}.sock`,
      log: `${work.path}/${name}.log`,
      cgroup: "",
    }, signal);
  return { work, serve, newServers: () => new TreeServers(options) };
}

Deno.test("a file server is noted while it runs", async () => {
  const { work, serve, newServers } = await place();
  await using _ = work;
  const server = await serve(newServers(), "a");
  assert.equal((await namesIn(`${work.path}/notes`)).length, 1);
  await server.stop();
  await server.stop();
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
  assert.deepEqual(await namesIn(work.path), ["notes", "share"]);
});

Deno.test("what nobody has taken over is ended, the others go on", async () => {
  const { work, serve, newServers } = await place();
  await using _ = work;
  const earlier = newServers();
  const kept = await serve(earlier, "kept");
  await serve(earlier, "left");
  const servers = newServers();
  const adopted = await servers.adopt(kept.record);
  await servers.recover();
  assert.equal(adopted?.socket, kept.socket);
  const names = await namesIn(work.path);
  assert.deepEqual(names.filter((name) => name.startsWith("left")), []);
  assert.ok(names.includes("kept.sock"));
  await adopted.stop();
  assert.deepEqual(await namesIn(work.path), ["notes", "share"]);
  assert.deepEqual(await namesIn(`${work.path}/notes`), []);
});

Deno.test("a note that cannot be read is removed", async () => {
  const { work, newServers } = await place();
  await using _ = work;
  await Deno.mkdir(`${work.path}/notes`);
  await Deno.writeTextFile(`${work.path}/notes/a.json`, "{");
  await newServers().recover();
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
