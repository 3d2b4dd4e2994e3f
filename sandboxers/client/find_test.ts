import assert from "node:assert/strict";
import { refusal } from "../lifecycle/testing/refused.ts";
import { ADDRESS_VARIABLE, findSandboxers } from "./find.ts";

/** A directory with a socket that accepts, and one that nobody listens at any more. */
async function sockets() {
  const stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "quasaur-find-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const listen = (name: string) => {
    const path = `${directory}/${name}.sock`;
    const listener = Deno.listen({ transport: "unix", path });
    stack.defer(() => {
      try {
        listener.close();
      } catch {
        // Closed by the test.
      }
    });
    return { path, listener };
  };
  const alive = listen("alive");
  const other = listen("other");
  const dead = `${directory}/dead.sock`;
  Deno.listen({ transport: "unix", path: dead }).close();
  return {
    alive: alive.path,
    other: other.path,
    dead,
    missing: `${directory}/missing.sock`,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

Deno.test("without a name the default sockets that accept a connection are found", async () => {
  await using there = await sockets();
  const { alive, dead, missing, other } = there;
  const defaults = [alive, dead, missing, other];
  assert.deepEqual(await findSandboxers({ defaults }), { addresses: [alive, other], problems: [] });
  assert.deepEqual((await findSandboxers({ defaults: [missing] })).addresses, []);
});

Deno.test("named sockets are taken, once each, and in their order", async () => {
  await using there = await sockets();
  const addresses = [there.other, `unix://${there.alive}`, there.other];
  const found = await findSandboxers({ addresses, defaults: [] });
  assert.deepEqual(found.addresses, [there.other, there.alive]);
});

Deno.test("a named socket that does not answer is an error that says why", async () => {
  await using there = await sockets();
  const find = (address: string) => findSandboxers({ addresses: [address] });
  await assert.rejects(
    find(there.missing),
    refusal("Unavailable", /missing.sock".*no such socket/),
  );
  await assert.rejects(find(there.dead), refusal("Unavailable", /dead.sock": .*is it running/));
  await assert.rejects(find("wasm.sock"), refusal("InvalidArgument", /"wasm.sock".*absolute path/));
});

Deno.test("the environment names sockets where the caller names none", async () => {
  await using there = await sockets();
  Deno.env.set(ADDRESS_VARIABLE, `${there.alive}:${there.other}`);
  try {
    assert.deepEqual((await findSandboxers()).addresses, [there.alive, there.other]);
    const named = await findSandboxers({ addresses: [there.other] });
    assert.deepEqual(named.addresses, [there.other]);
  } finally {
    Deno.env.delete(ADDRESS_VARIABLE);
  }
});
