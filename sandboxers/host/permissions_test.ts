/**
 * The host room works with the permissions of a sandboxer: one program to run, its own directory, and
 * two sockets by name; no FFI, and nothing of /proc, /sys and /dev.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { World } from "../vmm/network/testing/world.ts";
import { launcher, runDirectory } from "./testing/fixture.ts";

const PROGRAM = fileURLToPath(new URL("./testing/permitted_program.ts", import.meta.url));

Deno.test("the permissions of a sandboxer suffice for all that it does to the host", async () => {
  await using world = await World.create();
  await world.connect("10.91.0.2/24", "10.91.0.1/24");
  await using directory = await runDirectory();
  const { path } = directory;
  await Deno.mkdir(`${path}/own`);
  const socket = `${path}/own/${"deep/".repeat(25)}pod.sock`;
  await Deno.mkdir(socket.slice(0, -"/pod.sock".length), { recursive: true });
  using listener = Deno.listen({ transport: "unix", path: `${path}/own/pod.sock` });
  await Deno.link(`${path}/own/pod.sock`, socket);
  const serving = (async () => {
    using connection = await listener.accept();
    await connection.write(new TextEncoder().encode("a pod"));
  })();
  serving.catch(() => undefined);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--unstable-net",
      `--allow-read=${path}/own`,
      `--allow-write=${path}/own`,
      `--allow-net=unix:${path}/own/gate.sock,unix:${path}/own/relay.sock`,
      `--allow-run=${launcher.path}`,
      PROGRAM,
      `${path}/own`,
      launcher.path,
      world.netns,
      socket,
    ],
    stdin: "null",
  }).output();
  assert.equal(new TextDecoder().decode(stderr), "");
  assert.deepEqual(new TextDecoder().decode(stdout).trim().split("\n"), [
    "gate a pod",
    "mount shown",
    "relay true",
    "streams handed",
    "terminal true",
    "network eth0",
  ]);
  await serving;
});
