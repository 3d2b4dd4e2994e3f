import assert from "node:assert/strict";
import { createLog, noLog } from "../log.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { MetricsServer } from "./metrics_server.ts";

/** A directory for a socket, and a client for it. */
async function place() {
  const directory = await Deno.makeTempDir({ prefix: "metrics-" });
  const path = `${directory}/m.sock`;
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  return {
    address: { kind: "unix", path } as const,
    path,
    get: (target: string, method = "GET") => fetch(`http://x${target}`, { client, method }),
    async [Symbol.asyncDispose]() {
      client.close();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

Deno.test("metrics are at one path, for whoever may use the socket", async () => {
  await using here = await place();
  const { address, path, get } = here;
  const collect = () => Promise.resolve("a 1\n");
  {
    await using _server = await MetricsServer.listen({ address, collect, log: noLog });
    assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
    assert.equal(await (await get("/metrics?x=1")).text(), "a 1\n");
    const other = await get("/");
    assert.equal(other.status, 404);
    assert.match(await other.text(), /\/metrics/);
    const post = await get("/metrics", "POST");
    assert.equal(post.status, 405);
    await post.body?.cancel();
  }
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
});

Deno.test("who reads while metrics are put together gets the same ones", async () => {
  await using here = await place();
  let times = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const collect = async () => {
    times++;
    await promise;
    return `times ${times}\n`;
  };
  await using _server = await MetricsServer.listen({ address: here.address, collect, log: noLog });
  const both = [here.get("/metrics"), here.get("/metrics")];
  // Both requests are there before the first is answered.
  await new Promise((done) => setTimeout(done, 100));
  resolve();
  const texts = await Promise.all((await Promise.all(both)).map((one) => one.text()));
  assert.deepEqual(texts, ["times 1\n", "times 1\n"]);
});

Deno.test("metrics that cannot be put together are told in the log, not to the reader", async () => {
  await using here = await place();
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line) });
  const collect = () => Promise.reject(new SandboxError("Internal", "no such thing"));
  await using _server = await MetricsServer.listen({ address: here.address, collect, log });
  const answer = await here.get("/metrics");
  assert.equal(answer.status, 500);
  assert.ok(!(await answer.text()).includes("no such thing"));
  assert.match(lines.join(), /no such thing/);
});

Deno.test("a socket that somebody listens at is left alone", async () => {
  await using here = await place();
  const options = { address: here.address, collect: () => Promise.resolve(""), log: noLog };
  await using _server = await MetricsServer.listen(options);
  await assert.rejects(MetricsServer.listen(options), { code: "AlreadyExists" });
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr;
  const tcp = { ...options, address: { kind: "tcp", hostname: "127.0.0.1", port } as const };
  await assert.rejects(MetricsServer.listen(tcp), { code: "AlreadyExists" });
});
