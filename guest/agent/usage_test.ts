import assert from "node:assert/strict";
import { sysctlPath } from "./setup.ts";
import { countCpus, parseGuest } from "./usage.ts";

Deno.test("the guest's usage is read from the kernel's counts", () => {
  const meminfo =
    "MemTotal:          85892 kB\nMemFree:           1 kB\nMemAvailable:      41344 kB\n";
  const stat = "cpu  100 5 20 4000 300 1 2 3 50 0\ncpu0 1 1 1 1\n";
  assert.deepEqual(parseGuest(meminfo, "0.15 0.10 0.05 1/60 100\n", stat), {
    memoryTotalBytes: 85892 * 1024,
    memoryAvailableBytes: 41344 * 1024,
    load: 0.15,
    // All but idle and waiting for disks, in hundredths of a second; guests' time is in the user's.
    cpuUs: (100 + 5 + 20 + 1 + 2 + 3) * 10_000,
  });
});

Deno.test("CPUs are counted from a list", () => {
  assert.deepEqual(["0\n", "0-3", "0-1,4,6-7\n", ""].map(countCpus), [1, 4, 5, 0]);
});

Deno.test("kernel settings have their path by dots or slashes", () => {
  assert.equal(sysctlPath("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
  assert.equal(sysctlPath("net/ipv4/ip_forward"), "net/ipv4/ip_forward");
  assert.equal(
    sysctlPath("net.ipv4.conf.eth0/100.forwarding"),
    "net/ipv4/conf/eth0.100/forwarding",
  );
});
