import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  LogEntrySchema,
  ProcessState,
  SandboxState,
} from "../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { killCommand } from "./kill.ts";
import { logsCommand } from "./logs.ts";
import { pauseCommand } from "./pause.ts";
import { stopCommand } from "./stop.ts";
import { FakeClient, FakePorts, runCommandWith } from "./testing/fake_fleet.ts";
import { updateCommand } from "./update.ts";
import { UsageError } from "./usage_error.ts";
import { waitCommand } from "./wait.ts";

const container = (id: string, state = ProcessState.RUNNING) => ({
  id,
  name: `n-${id}`,
  state,
  ...(state === ProcessState.STOPPED ? { exit: { status: 0 } } : {}),
});
const POD = {
  id: "aaaa",
  name: "pod",
  state: SandboxState.READY,
  containers: [container("c1"), container("c2", ProcessState.STOPPED), container("c3")],
};
const BOX = { id: "bbbb", name: "box", state: SandboxState.READY, containers: [container("d1")] };

Deno.test("stop does what it can, names what it did, and ends with 1 for the rest", async () => {
  const client = new FakeClient({ sandboxes: [POD, BOX] });
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(stopCommand, ports, ["-t", "2.5", "nope", "box", "aa"]), 1);
  assert.deepEqual(ports.said.output.split("\n").sort(), ["", "aa", "box"]);
  assert.match(ports.said.errors.join(), /no sandbox or container "nope" found/);
  const stopped = client.calls.map(([, request]) => JSON.stringify(request, bigints));
  assert.equal(stopped.length, 2);
  assert.match(stopped[0] ?? "", /"target":"bbbb".*"seconds":"2","nanos":500000000/);
});

/** JSON has no numbers of that kind. */
function bigints(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}` : value;
}

Deno.test("kill means all containers of a sandbox that have not ended, or the one that is named", async () => {
  const client = new FakeClient({ sandboxes: [POD] });
  assert.equal(await runCommandWith(killCommand, new FakePorts([client]), ["pod"]), 0);
  assert.deepEqual(client.calls.map(([, request]) => request), [
    { target: "c1", signal: 9, all: false },
    { target: "c3", signal: 9, all: false },
  ]);
  client.calls.length = 0;
  const one = ["-s", "hup", "--all", "-q", "pod/n-c3"];
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(killCommand, ports, one), 0);
  assert.deepEqual(client.calls, [["kill", { target: "c3", signal: 1, all: true }]]);
  assert.equal(ports.said.output, "");
});

Deno.test("kill refuses signals that are none", async () => {
  const ports = new FakePorts([new FakeClient()]);
  for (const signal of ["0", "65", "NOPE", "SIGSIG", "-1"]) {
    await assert.rejects(
      runCommandWith(killCommand, ports, [`--signal=${signal}`, "x"]),
      UsageError,
      signal,
    );
  }
});

Deno.test("pause names the container where one is meant, else the sandbox", async () => {
  const client = new FakeClient({ sandboxes: [POD, BOX] });
  await runCommandWith(pauseCommand, new FakePorts([client]), ["box", "pod/c1"]);
  assert.deepEqual(client.calls.map(([, request]) => request), [{ target: "bbbb" }, {
    target: "c1",
  }]);
});

Deno.test("wait ends with the status of the last, and with 125 where one is not there", async () => {
  const client = new FakeClient({ sandboxes: [BOX], exit: { status: 7, reason: "exited" } });
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(waitCommand, ports, ["box"]), 7);
  assert.equal(ports.said.output, "7\n");
  assert.equal(await runCommandWith(waitCommand, new FakePorts([client]), ["nope", "box"]), 125);
  const trap = new FakeClient({ sandboxes: [BOX], exit: { status: 137, reason: "trap" } });
  assert.equal(await runCommandWith(waitCommand, new FakePorts([trap]), ["box"]), 134);
});

Deno.test("update wants something to change", async () => {
  await assert.rejects(
    runCommandWith(updateCommand, new FakePorts([new FakeClient()]), ["box"]),
    UsageError,
  );
});

Deno.test("logs put each line on its stream, with times where lines begin, and no line unended", async () => {
  const entry = (stream: string, text: string, partial = false) => ({
    stream,
    content: new TextEncoder().encode(text),
    partial,
    at: { seconds: 1_767_268_800n, nanos: 0 },
  });
  const client = new FakeClient({
    sandboxes: [BOX],
    logs: [entry("stdout", "one, ", true), entry("stderr", "oops"), entry("stdout", "two\n")],
  });
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(logsCommand, ports, ["-t", "--tail", "5", "box"]), 0);
  assert.equal(ports.said.output, "2026-01-01T12:00:00.000Z one, two\n");
  assert.deepEqual(ports.said.errors, ["2026-01-01T12:00:00.000Z oops\n"]);
  const [[, request] = []] = client.calls;
  assert.deepEqual(request, { target: "d1", follow: false, tail: 5 });
});

Deno.test("logs write together what comes together, in its order, and end when nobody reads them", async () => {
  const entry = (stream: string, text: string) => ({
    stream,
    content: new TextEncoder().encode(text),
  });
  const logs = [
    ...Array.from({ length: 50 }, (_, at) => entry("stdout", `${at}\n`)),
    entry("stderr", "oops\n"),
    entry("stdout", "end\n"),
  ];
  const writes: string[] = [];
  const write = (bytes: Uint8Array) => {
    writes.push(new TextDecoder().decode(bytes));
    return Promise.resolve();
  };
  class Noted extends FakePorts {
    override readonly streams: FakePorts["streams"] = {
      input: () => ReadableStream.from([]),
      output: write,
      error: write,
    };
  }
  assert.equal(
    await runCommandWith(
      logsCommand,
      new Noted([new FakeClient({ sandboxes: [BOX], logs })]),
      ["box"],
    ),
    0,
  );
  assert.equal(
    writes.join(""),
    logs.map(({ content }) => new TextDecoder().decode(content)).join(""),
  );
  assert.ok(writes.length < 10, `${writes.length} writes`);
  class Unread extends FakePorts {
    override readonly streams: FakePorts["streams"] = {
      input: () => ReadableStream.from([]),
      output: () => Promise.reject(new Deno.errors.BrokenPipe()),
      error: () => Promise.resolve(),
    };
  }
  const client: ManagementClient = new FakeClient({ sandboxes: [BOX] });
  // One line, and then nothing for ever.
  client.logs = async function* () {
    yield create(LogEntrySchema, entry("stdout", "x\n"));
    await new Promise(() => undefined);
  };
  const ports = new Unread([client]);
  assert.equal(await runCommandWith(logsCommand, ports, ["-f", "box"]), 0);
  assert.deepEqual(ports.said.errors, []);
});

Deno.test("logs --tail 0 asks for what comes from now on", async () => {
  const client = new FakeClient({ sandboxes: [BOX] });
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(logsCommand, ports, ["-f", "-n", "0", "box"]), 0);
  const [[, request] = []] = client.calls;
  assert.deepEqual(request, {
    target: "d1",
    follow: true,
    tail: 0,
    since: timestampFromMs(ports.now()),
  });
});

Deno.test("logs say what the sandboxer says where there are none", async () => {
  const failure = new SandboxError("FailedPrecondition", "its logs are containerd's");
  const client = new FakeClient({ sandboxes: [BOX] });
  client.logs = () => {
    throw failure;
  };
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(logsCommand, ports, ["box"]), 1);
  assert.deepEqual(ports.said.errors, ["its logs are containerd's"]);
});

Deno.test("times that are none are refused", async () => {
  const ports = new FakePorts([new FakeClient({ sandboxes: [BOX] })]);
  for (const args of [["--since", "soon"], ["--since", "2026-13-01"], ["--tail", "-1"]]) {
    await assert.rejects(runCommandWith(logsCommand, ports, [...args, "box"]), UsageError);
  }
});
