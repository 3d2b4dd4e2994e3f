import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EventSchema } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { eventsCommand } from "./events.ts";
import { FakeClient, FakePorts, runCommandWith } from "./testing/fake_fleet.ts";
import { UsageError } from "./usage_error.ts";

const event = (second: number, type: string, sandboxId: string) => ({
  at: timestampFromMs(second * 1000),
  type,
  namespace: "k8s.io",
  sandboxId,
});
const EXITED = {
  ...event(2, "process-exited", "b".repeat(20)),
  containerId: "c1",
  pid: 7,
  exit: { status: 3, reason: "oom" },
  message: 'no "memory"',
  lostBefore: 5n,
};

function ports(): FakePorts {
  return new FakePorts([
    new FakeClient({
      events: [event(1, "sandbox-created", "a"), event(3, "sandbox-started", "a")],
    }),
    new FakeClient({ events: [EXITED] }),
  ]);
}

Deno.test("events prints what all sandboxers remember, by time, and says what was lost", async () => {
  const world = ports();
  assert.equal(await runCommandWith(eventsCommand, world, []), 0);
  assert.equal(
    world.said.output,
    "1970-01-01T00:00:01.000Z sandbox-created namespace=k8s.io sandbox=a\n" +
      "5 events were lost here\n" +
      "1970-01-01T00:00:02.000Z process-exited namespace=k8s.io sandbox=bbbbbbbbbbbbb " +
      'container=c1 pid=7 status=3 reason=oom message="no \\"memory\\""\n' +
      "1970-01-01T00:00:03.000Z sandbox-started namespace=k8s.io sandbox=a\n",
  );
});

Deno.test("events takes filters and prints lines of JSON", async () => {
  const world = ports();
  const args = ["--json", "--filter", "type=process-exited", "--filter", "sandbox=bbb"];
  assert.equal(await runCommandWith(eventsCommand, world, args), 0);
  assert.deepEqual(JSON.parse(world.said.output), {
    at: "1970-01-01T00:00:02.000Z",
    type: "process-exited",
    namespace: "k8s.io",
    sandbox: "b".repeat(20),
    container: "c1",
    pid: 7,
    exit: { status: 3, at: null, reason: "oom" },
    message: 'no "memory"',
    lostBefore: 5,
  });
  await assert.rejects(runCommandWith(eventsCommand, ports(), ["--filter", "x=y"]), UsageError);
});

Deno.test("events --follow prints as they come", async () => {
  const world = ports();
  assert.equal(await runCommandWith(eventsCommand, world, ["--follow", "--since", "5m"]), 0);
  assert.equal(world.said.output.split("\n").length, 5);
});

Deno.test("events --follow ends when nobody reads it any more", async () => {
  class Unread extends FakePorts {
    readonly written: string[] = [];
    override readonly streams: FakePorts["streams"] = {
      input: () => ReadableStream.from([]),
      error: () => Promise.resolve(),
      output: (bytes) => {
        this.written.push(new TextDecoder().decode(bytes));
        if (this.written.length > 1) return Promise.reject(new Deno.errors.BrokenPipe());
        return Promise.resolve();
      },
    };
  }
  // A sandboxer that goes on telling things for ever.
  const client = new FakeClient();
  client.events = async function* () {
    for (let second = 0;; second++) {
      yield create(EventSchema, event(await Promise.resolve(second), "sandbox-created", "a"));
    }
  };
  const world = new Unread([client]);
  assert.equal(await runCommandWith(eventsCommand, world, ["--follow"]), 0);
  assert.equal(world.written.length, 2);
  assert.deepEqual(world.said.errors, []);
});
