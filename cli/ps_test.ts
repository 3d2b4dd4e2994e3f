import assert from "node:assert/strict";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ProcessState, SandboxState } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { psCommand } from "./ps.ts";
import { FakeClient, FakePorts, runCommandWith } from "./testing/fake_fleet.ts";
import { UsageError } from "./usage_error.ts";

const at = (time: string) => timestampFromDate(new Date(`2026-01-01T${time}Z`));

const WEB = {
  id: "0123456789abcdef",
  name: "web",
  namespace: "k8s.io",
  kind: "vmm",
  state: SandboxState.READY,
  createdAt: at("11:00:00"),
  labels: { app: "web", tier: "" },
  containers: [
    { id: "c1", name: "nginx", image: "nginx:1", state: ProcessState.RUNNING },
    { id: "c2", name: "log", image: "nginx:1", state: ProcessState.PAUSED },
  ],
};
const JOB = {
  id: "fedcba9876543210",
  name: "job\x1b[31m",
  namespace: "quasaur",
  kind: "wasm",
  state: SandboxState.STOPPED,
  createdAt: at("11:59:58"),
  managed: true,
  exit: { status: 3, reason: "exited", at: at("11:59:59") },
  containers: [{
    id: "c3",
    image: "job:1",
    state: ProcessState.STOPPED,
    exit: { status: 3, reason: "exited" },
  }],
};

async function ps(...args: string[]): Promise<string> {
  const clients = [new FakeClient({ sandboxes: [WEB] }), new FakeClient({ sandboxes: [JOB] })];
  const ports = new FakePorts(clients);
  assert.equal(await runCommandWith(psCommand, ports, args), 0);
  assert.deepEqual(ports.said.errors, []);
  return ports.said.output;
}

Deno.test("ps shows what is not over, of all sandboxers", async () => {
  assert.equal(
    await ps(),
    "ID             NAME  KIND  STATE  CONTAINERS           IMAGE    CREATED     NAMESPACE\n" +
      "0123456789abc  web   vmm   ready  1 running, 1 paused  nginx:1  1 hour ago  k8s.io\n",
  );
});

Deno.test("ps -a shows all, the youngest first, and lets no name write to the terminal", async () => {
  const lines = (await ps("-a", "--no-trunc")).split("\n");
  assert.match(lines[1] ?? "", /^fedcba9876543210 +job\\x1b\[31m +wasm +stopped +1 exited \(3\)/);
  assert.match(lines[2] ?? "", /^0123456789abcdef +web/);
});

Deno.test("ps takes filters: one of the same key, all of different keys", async () => {
  assert.equal(await ps("-q", "--filter", "name=w", "--filter", "name=x"), "0123456789abcdef\n");
  assert.equal(await ps("-q", "--filter", "name=w", "--filter", "kind=wasm"), "");
  assert.equal(await ps("-q", "--filter", "label=app=web", "-f", "label=no"), "0123456789abcdef\n");
  assert.equal(await ps("-q", "--filter", "label=app=other"), "");
  assert.equal(await ps("-q", "--filter", "label=tier"), "0123456789abcdef\n");
  assert.equal(await ps("-q", "--filter", "state=paused"), "0123456789abcdef\n");
  assert.equal(await ps("-q", "--filter", "container=nginx"), "0123456789abcdef\n");
  assert.equal(await ps("-q", "--kind", "wasm", "-a"), "fedcba9876543210\n");
});

Deno.test("ps shows what is over to whoever asks for such a state", async () => {
  assert.equal(await ps("-q", "--filter", "state=stopped"), "fedcba9876543210\n");
});

Deno.test("ps --json prints plain JSON, with no trace of the wire", async () => {
  const [sandbox] = JSON.parse(await ps("--json", "-a", "--kind", "wasm"));
  assert.equal(sandbox.name, "job\x1b[31m");
  assert.deepEqual(sandbox.exit, { status: 3, at: "2026-01-01T11:59:59.000Z", reason: "exited" });
  assert.equal(sandbox.createdAt, "2026-01-01T11:59:58.000Z");
  assert.equal(sandbox.containers[0].state, "exited");
  assert.ok(!JSON.stringify(sandbox).includes("$typeName"));
});

Deno.test("ps refuses filters that are none", async () => {
  const ports = new FakePorts([new FakeClient()]);
  for (const filter of ["x", "x=1", "state=gone", "name=", "kind=docker"]) {
    await assert.rejects(
      runCommandWith(psCommand, ports, ["--filter", filter]),
      (error) => error instanceof UsageError && error.message.includes(JSON.stringify(filter)),
    );
  }
});

Deno.test("ps finds what runs on gVisor by the name that it was run by, and refuses unknown kinds", async () => {
  const sandbox = (id: string, runtime: string) => ({ id, kind: "quark", runtime });
  const sandboxes = [
    sandbox("a", "io.containerd.quasaur-gvisor.v1"),
    sandbox("b", "io.containerd.quasaur-quark.v1"),
  ];
  for (const [kind, ids] of [["gvisor", "a\n"], ["quark", "a\nb\n"]] as const) {
    for (const args of [["--kind", kind], ["--filter", `kind=${kind}`]]) {
      const ports = new FakePorts([new FakeClient({ sandboxes })]);
      assert.equal(await runCommandWith(psCommand, ports, ["-q", "-a", ...args]), 0);
      assert.equal(ports.said.output, ids);
    }
  }
  const ports = new FakePorts([new FakeClient({ sandboxes })]);
  await assert.rejects(runCommandWith(psCommand, ports, ["--kind", "docker"]), {
    name: "UsageError",
    message: /--kind "docker": expected one of wasm, vmm, quark, gvisor/,
  });
});

Deno.test("ps shows the others where a sandboxer fails, tells it, and ends with 1", async () => {
  const failure = new SandboxError("Unavailable", "it is busy");
  const ports = new FakePorts([
    new FakeClient({ failure }, "/run/bad.sock"),
    new FakeClient({ sandboxes: [WEB] }),
  ]);
  assert.equal(await runCommandWith(psCommand, ports, ["-q"]), 1);
  assert.equal(ports.said.output, "0123456789abcdef\n");
  assert.deepEqual(ports.said.errors, [
    'cannot list the sandboxes at "/run/bad.sock": it is busy',
  ]);
});

Deno.test("a command without any sandboxer says where it looked and what to do", async () => {
  const ports = new FakePorts([]);
  assert.equal(await runCommandWith(psCommand, ports, []), 1);
  const [error = ""] = ports.said.errors;
  assert.match(error, /no sandboxer is running: nobody listens at \/run\/quasaur\//);
  assert.match(error, /start one, such as with `systemctl start quasaur-wasm`.*--address/);
});

Deno.test("sockets can be named before the verb and behind it", async () => {
  const ports = new FakePorts([new FakeClient()]);
  await runCommandWith(psCommand, ports, ["--address", "/a.sock", "--address", "/b.sock"]);
  assert.deepEqual(ports.addresses, ["/a.sock", "/b.sock"]);
});
