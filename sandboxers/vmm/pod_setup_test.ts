import assert from "node:assert/strict";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { NO_NETWORK, podSetup } from "./pod_setup.ts";

const SPEC: SandboxSpec = {
  id: "pod-1",
  namespace: "k8s.io",
  name: "default/web",
  hostname: "web",
  network: { kind: "none" },
  dns: { servers: ["10.0.0.10"], searches: ["a.local", "b.local"], options: ["ndots:5"] },
  cgroupParent: "",
  resources: {},
  labels: {},
  annotations: {},
};

const NETWORK = {
  ...NO_NETWORK,
  interfaces: [{
    name: "eth0",
    device: 0,
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    addresses: ["10.1.2.3/24", "fd00::3/64", "fe80::1/64"],
  }],
};

Deno.test("a pod's files name it by its addresses and know its servers", () => {
  const { files, hostname } = podSetup(SPEC, NETWORK, "nameserver 192.0.2.1\n");
  assert.equal(hostname, "web");
  assert.equal(files.hostname, "web\n");
  assert.equal(
    files.resolvConf,
    "search a.local b.local\nnameserver 10.0.0.10\noptions ndots:5\n",
  );
  assert.deepEqual(files.hosts.split("\n").slice(2), ["10.1.2.3\tweb", "fd00::3\tweb", ""]);
});

Deno.test("a pod without DNS settings has the host's", () => {
  const dns = { servers: [], searches: [], options: [] };
  const { files } = podSetup({ ...SPEC, dns }, NO_NETWORK, "nameserver 192.0.2.1\n");
  assert.equal(files.resolvConf, "nameserver 192.0.2.1\n");
});

Deno.test("each set-up has other entropy, and each pod its own machine id", () => {
  const first = podSetup(SPEC, NO_NETWORK, "");
  const again = podSetup(SPEC, NO_NETWORK, "");
  const other = podSetup({ ...SPEC, id: "pod-2" }, NO_NETWORK, "");
  assert.notEqual(first.seed, again.seed);
  assert.equal(Uint8Array.fromBase64(first.seed).length, 64);
  assert.equal(first.machineId, again.machineId);
  assert.notEqual(first.machineId, other.machineId);
  assert.match(first.machineId, /^[0-9a-f]{32}$/);
});
