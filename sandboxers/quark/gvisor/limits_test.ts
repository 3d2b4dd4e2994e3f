import assert from "node:assert/strict";
import { podLimits } from "./limits.ts";

const MIB = 1 << 20;
/** What a sandbox takes by itself. */
const OWN = 12 * MIB;

Deno.test("a pod's own limits count, with room for the sandbox itself", () => {
  const pod = { memoryBytes: 100 * MIB, cpuQuotaUs: 50_000, cpuPeriodUs: 100_000, cpuShares: 512 };
  assert.deepEqual(podLimits(pod, [{ memoryBytes: MIB }]), {
    memoryBytes: 100 * MIB + OWN,
    cpuQuotaUs: 50_000,
    cpuPeriodUs: 100_000,
    cpuShares: 512,
  });
});

Deno.test("without limits of its pod those of all containers are added up", () => {
  const limits = podLimits({}, [
    { memoryBytes: 10 * MIB, cpuQuotaUs: 10_000, cpuPeriodUs: 20_000, cpuShares: 100 },
    { memoryBytes: 20 * MIB, cpuQuotaUs: 25_000, cpuPeriodUs: 100_000, cpuShares: 200 },
  ]);
  assert.deepEqual(limits, {
    memoryBytes: 30 * MIB + OWN,
    cpuQuotaUs: 75_000,
    cpuPeriodUs: 100_000,
    cpuShares: 300,
  });
});

Deno.test("one container without a limit leaves the pod without", () => {
  assert.deepEqual(podLimits({}, [{ memoryBytes: MIB, cpuQuotaUs: 1000 }, { cpuQuotaUs: -1 }]), {});
  assert.deepEqual(podLimits({}, []), {});
});

Deno.test("CPUs are named where all containers name the same", () => {
  assert.deepEqual(podLimits({}, [{ cpusetCpus: "0" }, { cpusetCpus: "0" }]), { cpusetCpus: "0" });
  assert.deepEqual(podLimits({}, [{ cpusetCpus: "0" }, { cpusetCpus: "1" }]), {});
  assert.deepEqual(podLimits({ cpusetCpus: "1" }, [{ cpusetCpus: "0" }]), { cpusetCpus: "1" });
});

Deno.test("numbers of processes are no limit of the host's", () => {
  assert.deepEqual(podLimits({ pids: 10 }, [{ pids: 5 }]), {});
});
