import assert from "node:assert/strict";
import { closest } from "./closest.ts";

Deno.test("closest() finds what was meant, and nothing where nothing is near", () => {
  const known = ["hypervisor.vcpus", "hypervisor.memory_in_mb", "limits.max_vcpus", "a.log_level"];
  const cases: [string, string | undefined][] = [
    ["hypervisor.vcpu", "hypervisor.vcpus"],
    ["hypervisor.Memory_in_MB", "hypervisor.memory_in_mb"],
    ["hypervisor.memory_in_mib", "hypervisor.memory_in_mb"],
    ["vcpus", "hypervisor.vcpus"],
    ["log_level", "a.log_level"],
    ["limits.max_vcpu", "limits.max_vcpus"],
    ["hypervisor.colour", undefined],
    ["x", undefined],
    ["y".repeat(10_000), undefined],
  ];
  for (const [name, meant] of cases) assert.equal(closest(name, known), meant, name);
});
