import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { RunRequestSchema } from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { SandboxError } from "../../lifecycle/errors.ts";
import type { RunAbilities } from "./abilities.ts";
import { planRun, type RunPlan } from "./run_request.ts";
import type { RunWishes } from "./testing/world.ts";

const ABILITIES: RunAbilities = {
  fifos: { make: () => Promise.resolve() },
  network: { kind: "none" },
  userDns: { servers: ["10.0.2.3"], searches: [], options: [] },
  env: ["PATH=/bin"],
};

function plan(wishes: RunWishes): RunPlan {
  const all: RunWishes = {
    rootfs: { source: { case: "directory", value: "/image" } },
    process: { args: ["app"] },
    ...wishes,
  };
  return planRun(create(RunRequestSchema, all), ABILITIES);
}

Deno.test("what is not asked for has defaults of the kind", () => {
  const { network, dns, process, resources, runtime, startOnAttach } = plan({});
  assert.deepEqual(network, { kind: "none" });
  assert.deepEqual(dns.servers, []);
  assert.deepEqual(process, {
    args: ["app"],
    env: ["PATH=/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
  });
  assert.deepEqual(resources, {});
  assert.equal(runtime, undefined);
  assert.equal(startOnAttach, false);
});

Deno.test("what is asked for counts", () => {
  const made = plan({
    network: "/run/netns/a",
    hostname: "box",
    process: { args: ["app", ""], env: ["PATH=/other", "A=b=c", "A=d"], cwd: "/srv", uid: 7 },
    resources: { memoryBytes: 64n << 20n, cpuMillis: 1500n, pids: 10n },
    mounts: [{ source: "/data", destination: "/mnt/", readonly: true }],
    dns: { servers: ["1.1.1.1"], searches: ["a.b"], options: ["ndots:5"] },
    runtime: "gvisor",
  });
  assert.deepEqual(made.network, { kind: "namespace", path: "/run/netns/a" });
  assert.deepEqual(made.process.env, ["PATH=/other", "A=d"]);
  assert.deepEqual(made.resources, {
    memoryBytes: 64 << 20,
    cpuQuotaUs: 150_000,
    cpuPeriodUs: 100_000,
    pids: 10,
  });
  assert.deepEqual(made.mounts, [{ source: "/data", destination: "/mnt", readonly: true }]);
  assert.equal(made.runtime, "io.containerd.quasaur-gvisor.v1");
  assert.equal(plan({ runtime: "io.x.process.v1" }).runtime, "io.x.process.v1");
});

Deno.test("a network behind address translation has its own name server", () => {
  assert.deepEqual(plan({ network: "user" }).dns.servers, ["10.0.2.3"]);
  assert.deepEqual(plan({ network: "user", dns: { servers: ["9.9.9.9"] } }).dns.servers, [
    "9.9.9.9",
  ]);
});

Deno.test("what cannot be meant is refused by name", () => {
  const cases: readonly (readonly [RunWishes, RegExp])[] = [
    [{ name: "-a" }, /invalid name "-a"/],
    [{ rootfs: {} }, /invalid rootfs "": expected one of directory, template_directory/],
    [{ rootfs: { source: { case: "directory", value: "image" } } }, /rootfs.directory "image"/],
    [
      { rootfs: { source: { case: "templateDirectory", value: "/a:b" } } },
      /rootfs.template_directory "\/a:b": expected a path without/,
    ],
    [{ process: {} }, /invalid process.args "": expected a command/],
    [{ process: { args: ["a\0"] } }, /invalid process.args "a\\u0000": expected text without NUL/],
    [{ process: { args: ["a"], env: ["=x"] } }, /invalid process.env "=x": expected NAME=value/],
    [{ process: { args: ["a"], cwd: "/a/../b" } }, /invalid process.cwd "\/a\/..\/b"/],
    [{ process: { args: ["a"], uid: 4294967295 } }, /invalid process.uid 4294967295/],
    [{ process: { args: ["a".repeat(2 << 20)] } }, /invalid process.args .*: expected at most/],
    [
      { process: { args: ["a"], terminalSize: { columns: 0, rows: 9 } } },
      /terminal_size.columns 0/,
    ],
    [{ mounts: [{ source: "a", destination: "/b" }] }, /invalid mounts.source "a"/],
    [{ mounts: [{ source: "/a", destination: "//" }] }, /mounts.destination "\/\/"/],
    [
      { mounts: [{ source: "/a", destination: "/b" }, { source: "/c", destination: "/b/" }] },
      /expected one mount for each path/,
    ],
    [{ resources: { memoryBytes: 1n } }, /resources.memory_bytes 1: expected 0 for no limit/],
    [{ resources: { cpuMillis: 1n } }, /resources.cpu_millis 1: /],
    [{ resources: { pids: 1n << 40n } }, /resources.pids 1099511627776: /],
    [{ network: "bridge" }, /invalid network "bridge": expected "host"/],
    [{ hostname: "a b" }, /invalid hostname "a b"/],
    [{ labels: { "a b": "" } }, /invalid labels key "a b"/],
    [{ labels: { a: "x".repeat(1 << 20) } }, /invalid labels .*: expected at most/],
    [
      { annotations: { "management.quasaur.dev/managed": "false" } },
      /invalid annotations key "management.quasaur.dev\/managed"/,
    ],
    [{ image: "a\nb" }, /invalid image "a\\nb"/],
    [{ dns: { servers: ["a b"] } }, /invalid dns.servers "a b"/],
  ];
  for (const [wishes, message] of cases) {
    assert.throws(() => plan(wishes), (error: SandboxError) => {
      assert.equal(error.code, "InvalidArgument");
      assert.match(error.message, message);
      return true;
    });
  }
});
