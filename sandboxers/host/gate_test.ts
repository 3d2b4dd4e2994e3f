/**
 * The gate: connections to sockets at any path, through one.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Gate } from "./gate.ts";
import { assertFails, runDirectory } from "./testing/fixture.ts";

/** A server that says its name to everybody who connects, until it is disposed of. */
function server(path: string, name: string): Disposable {
  const listener = Deno.listen({ transport: "unix", path });
  void (async () => {
    for await (const connection of listener) {
      await connection.write(new TextEncoder().encode(name)).catch(() => undefined);
      connection.close();
    }
  })();
  return listener;
}

async function answer(connecting: Promise<Deno.UnixConn>): Promise<string> {
  using connection = await connecting;
  const buffer = new Uint8Array(100);
  return new TextDecoder().decode(buffer.subarray(0, await connection.read(buffer) ?? 0));
}

Deno.test("many connections at once each reach the socket that they name", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const gate = new Gate(`${path}/gate`);
  using servers = new DisposableStack();
  const names = Array.from({ length: 10 }, (_, i) => `pod-${i}`);
  for (const name of names) servers.use(server(`${path}/${name}`, name));
  const { connect } = gate;
  const asked = [...names, ...names, ...names];
  const answers = await Promise.all(asked.map((name) => answer(connect(`${path}/${name}`))));
  assert.deepEqual(answers, asked);
  await assert.rejects(Deno.lstat(gate.path), Deno.errors.NotFound);
});

Deno.test("a socket may be deeper than a socket's path can be long", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const deep = `${path}/${"d".repeat(150)}`;
  await Deno.mkdir(deep);
  using _server = server(`${path}/s`, "deep");
  await Deno.link(`${path}/s`, `${deep}/s`);
  assert.equal(await answer(new Gate(`${path}/gate`).connect(`${deep}/s`)), "deep");
});

Deno.test("what an earlier process left at the gate is removed", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  using _left = server(`${path}/gate`, "wrong");
  using _right = server(`${path}/right`, "right");
  assert.equal(await answer(new Gate(`${path}/gate`).connect(`${path}/right`)), "right");
});

Deno.test("a socket that is missing or served by nobody is told, and the next one is reached", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const gate = new Gate(`${path}/gate`);
  // A listener removes its socket when it is closed: a second name stays.
  const dying = Deno.listen({ transport: "unix", path: `${path}/dying` });
  await Deno.link(`${path}/dying`, `${path}/dead`);
  dying.close();
  using _server = server(`${path}/live`, "live");
  const missing = gate.connect(`${path}/missing`);
  const dead = gate.connect(`${path}/dead`);
  const live = answer(gate.connect(`${path}/live`));
  for (const connecting of [missing, dead, live]) connecting.catch(() => undefined);
  await assertFails(missing, "NotFound", /cannot connect to ".*\/missing"/);
  await assertFails(dead, "Unavailable", /cannot connect to ".*\/dead": nobody listens/);
  assert.equal(await live, "live");
});

Deno.test("a link in a pod's directory leads nowhere", async () => {
  await using directory = await runDirectory();
  const { path } = directory;
  const gate = new Gate(`${path}/gate`);
  using _server = server(`${path}/secret`, "secret");
  await Deno.symlink(`${path}/secret`, `${path}/link`);
  await Deno.writeTextFile(`${path}/file`, "");
  for (const name of ["link", "file"]) {
    await assertFails(gate.connect(`${path}/${name}`), "FailedPrecondition", /it is no socket/);
  }
  await assert.rejects(gate.connect(path));
  assert.equal(await answer(gate.connect(`${path}/secret`)), "secret");
});
