import { create, type MessageInitShape } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import {
  type LinuxContainerResources,
  LinuxContainerResourcesSchema,
} from "../../proto/gen/runtime/v1/pod_pb.ts";
import { podResources, updatedResources } from "./resources.ts";

function resources(
  init: MessageInitShape<typeof LinuxContainerResourcesSchema>,
): LinuxContainerResources {
  return create(LinuxContainerResourcesSchema, init);
}

function updated(json: unknown): ReturnType<typeof updatedResources> {
  return updatedResources(new TextEncoder().encode(JSON.stringify(json)));
}

Deno.test("podResources() of a pod without limits is no limit", () => {
  assert.deepEqual(podResources(undefined, undefined, "f"), {});
  assert.deepEqual(podResources(resources({}), resources({}), "f"), {});
});

Deno.test("podResources() adds the overhead to what the containers may use", () => {
  const sum = podResources(
    resources({
      memoryLimitInBytes: 1000n,
      cpuQuota: 50_000n,
      cpuPeriod: 100_000n,
      cpuShares: 512n,
      cpusetCpus: "0-1,3",
    }),
    resources({ memoryLimitInBytes: 24n, cpuQuota: 2_500n, cpuPeriod: 50_000n, cpuShares: 10n }),
    "f",
  );
  assert.deepEqual(sum, {
    memoryBytes: 1024,
    cpuQuotaUs: 55_000,
    cpuPeriodUs: 100_000,
    cpuShares: 522,
    cpusetCpus: "0-1,3",
  });
});

Deno.test("podResources() makes no limit out of overhead alone", () => {
  const overhead = resources({ memoryLimitInBytes: 24n, cpuQuota: 2_500n });
  assert.deepEqual(podResources(undefined, overhead, "f"), {});
  assert.deepEqual(podResources(resources({ cpuShares: 2n }), overhead, "f"), { cpuShares: 2 });
});

Deno.test("podResources() takes negative numbers for no limit and keeps shares in bounds", () => {
  const limits = resources({ memoryLimitInBytes: -1n, cpuQuota: -1n, cpuShares: 1_000_000n });
  assert.deepEqual(podResources(limits, undefined, "f"), { cpuShares: 262_144 });
});

Deno.test("podResources() fills in the kernel's period", () => {
  const limits = podResources(resources({ cpuQuota: 10_000n }), undefined, "f");
  assert.deepEqual(limits, { cpuQuotaUs: 10_000, cpuPeriodUs: 100_000 });
});

Deno.test("podResources() names the number that is out of range", () => {
  const limits = resources({ memoryLimitInBytes: 2n ** 62n });
  assert.throws(() => podResources(limits, undefined, "options.linux"), {
    code: "InvalidArgument",
    message: /options\.linux\.resources\.memory_limit_in_bytes/,
  });
});

Deno.test("podResources() refuses a set of CPUs that is none", () => {
  for (const cpusetCpus of ["a", "0-", "0,,1", " 0", "0\n1"]) {
    assert.throws(() => podResources(resources({ cpusetCpus }), undefined, "f"), {
      code: "InvalidArgument",
      message: /cpuset_cpus/,
    });
  }
});

Deno.test("updatedResources() reads Go's JSON, which leaves out what is 0", () => {
  const limits = updated({
    Overhead: { memory_limit_in_bytes: 10 },
    Resources: { memory_limit_in_bytes: 90, cpu_shares: 2 },
  });
  assert.deepEqual(limits, { memoryBytes: 100, cpuShares: 2 });
  assert.deepEqual(updated({ Overhead: null, Resources: null }), {});
  assert.deepEqual(updated({}), {});
});

Deno.test("updatedResources() refuses what is no such JSON", () => {
  const notUtf8 = new Uint8Array([0xff, 0xfe]);
  assert.throws(() => updatedResources(notUtf8), { code: "InvalidArgument" });
  const refused = [[], "x", null, { Resources: [] }, { Resources: { cpu_quota: 1.5 } }];
  for (const json of refused) assert.throws(() => updated(json), { code: "InvalidArgument" });
});
