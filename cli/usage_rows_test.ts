import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  SandboxSchema,
  StatsResponseSchema,
} from "../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { statsCommand } from "./stats.ts";
import { FakeClient, FakePorts, runCommandWith } from "./testing/fake_fleet.ts";
import { UsageRows } from "./usage_rows.ts";

const usage = (ms: number, cpuMs: number, memoryBytes = 1000) => ({
  at: timestampFromMs(ms),
  cpuNs: BigInt(cpuMs) * 1_000_000n,
  memoryBytes: BigInt(memoryBytes),
  memoryLimitBytes: 4000n,
  pids: 2,
});
const sample = (ms: number, cpuMs: number) =>
  create(StatsResponseSchema, {
    sandboxes: [{
      sandboxId: "a",
      usage: usage(ms, cpuMs),
      containers: [{ containerId: "c", usage: usage(ms, Math.floor(cpuMs / 2)) }],
    }],
  });
const SANDBOXES = [create(SandboxSchema, {
  id: "a",
  name: "web",
  kind: "wasm",
  containers: [{ id: "c", name: "app" }],
})];

Deno.test("the share of CPU is what was used since the sample before", async () => {
  const client = new FakeClient();
  let asked = 0;
  const describe = () => {
    asked++;
    return Promise.resolve(SANDBOXES);
  };
  const rows = new UsageRows({ byContainer: false, describe });
  const [first] = await rows.take(client, sample(1000, 100));
  assert.deepEqual([first?.name, first?.kind, first?.cpuShare], ["web", "wasm", null]);
  const [second] = await rows.take(client, sample(1500, 350));
  assert.equal(second?.cpuShare, 0.5);
  // A counter that goes back is of another process: nothing can be said.
  const [third] = await rows.take(client, sample(2000, 0));
  assert.equal(third?.cpuShare, 0.5);
  assert.equal(asked, 1);
  const inside = new UsageRows({ byContainer: true, describe });
  assert.deepEqual((await inside.take(client, sample(1, 1)))[0]?.name, "app");
});

Deno.test("a sandbox without a number of its own has those of its containers together", async () => {
  const rows = new UsageRows({ byContainer: false, describe: () => Promise.resolve(SANDBOXES) });
  const [row] = await rows.take(
    new FakeClient(),
    create(StatsResponseSchema, {
      sandboxes: [{
        sandboxId: "a",
        containers: [{ containerId: "c", usage: usage(1, 5, 10) }, {
          containerId: "d",
          usage: usage(1, 7, 20),
        }],
      }],
    }),
  );
  assert.deepEqual([row?.cpuNs, row?.memoryBytes, row?.pids], [12_000_000, 30, 4]);
});

Deno.test("stats --no-stream looks twice and prints once", async () => {
  const sandboxes = [{ id: "a", name: "web", kind: "wasm" }];
  const stats = [sample(1000, 0), sample(2000, 250), sample(3000, 250)];
  const ports = new FakePorts([new FakeClient({ sandboxes, stats })]);
  assert.equal(await runCommandWith(statsCommand, ports, ["--no-stream"]), 0);
  assert.equal(
    ports.said.output,
    "SANDBOX  NAME  KIND     CPU  MEMORY   LIMIT   SHARE  PIDS\n" +
      "a        web   wasm  25.00%   1000B  3.9KiB  25.00%     2\n",
  );
  const lines = new FakePorts([new FakeClient({ sandboxes, stats })]);
  assert.equal(await runCommandWith(statsCommand, lines, ["--json", "web"]), 0);
  const shares = lines.said.output.trim().split("\n").map((line) => JSON.parse(line).cpuShare);
  assert.deepEqual(shares, [null, 0.25, 0]);
});

Deno.test("stats ends when nobody reads it any more, as a table and as lines", async () => {
  class Unread extends FakePorts {
    override readonly streams: FakePorts["streams"] = {
      input: () => ReadableStream.from([]),
      error: () => Promise.resolve(),
      output: () => Promise.reject(new Deno.errors.BrokenPipe()),
    };
  }
  for (const args of [[], ["--json"]]) {
    const sandboxes = [{ id: "a", name: "web", kind: "wasm" }];
    const client: ManagementClient = new FakeClient({ sandboxes });
    // A sandboxer that goes on measuring for ever.
    client.stats = async function* (_request, options = {}) {
      const { promise: over, resolve } = Promise.withResolvers<void>();
      options.signal?.addEventListener("abort", () => resolve());
      yield create(StatsResponseSchema, sample(1000, 0));
      await over;
    };
    const ports = new Unread([client]);
    assert.equal(await runCommandWith(statsCommand, ports, args), 0);
    assert.deepEqual(ports.said.errors, []);
  }
});
