import { create } from "@bufbuild/protobuf";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import { Events } from "../../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { refused } from "../../sandboxers/lifecycle/testing/refused.ts";
import { TtrpcClient } from "./client.ts";
import { TtrpcServer } from "./server.ts";

const forward = Events.method.forward;

/** A server, and a connection to it that was made elsewhere. */
async function connected(onCall: (bytes: number) => void) {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-transport-" });
  const path = `${directory}/s.sock`;
  const server = new TtrpcServer().add(Events, {
    forward: ({ envelope }): Empty => {
      onCall(envelope?.event?.value.length ?? 0);
      return create(EmptySchema);
    },
  });
  await server.listen(path);
  const connection = await Deno.connect({ transport: "unix", path });
  return {
    client: TtrpcClient.over(connection),
    server,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

Deno.test("a client uses a connection that somebody else has made, for large calls and many", async () => {
  const lengths: number[] = [];
  await using world = await connected((bytes) => lengths.push(bytes));
  using client = world.client;
  const sizes = [3 << 20, 1, 70_000, 0];
  await Promise.all(
    sizes.map((size) =>
      client.call(forward, { envelope: { event: { value: new Uint8Array(size) } } })
    ),
  );
  assert.deepEqual(lengths, sizes);
  assert.equal(client.connected, true);
});

Deno.test("a client tells when its connection has ended, and why", async () => {
  await using world = await connected(() => undefined);
  const { client, server } = world;
  await client.call(forward, {});
  await server.close();
  assert.match((await client.closed).message, /the server closed the connection/);
  await refused(client.call(forward, {}), "Unavailable");
  client.close();
});

Deno.test("closing a client settles what it tells of its end", async () => {
  await using world = await connected(() => undefined);
  world.client.close();
  assert.match((await world.client.closed).message, /the client was closed/);
});
