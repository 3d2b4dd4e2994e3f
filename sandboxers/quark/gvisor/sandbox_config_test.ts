import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { objectOf, objectsOf } from "../../oci/json.ts";
import { sandboxConfig } from "./sandbox_config.ts";

const SURROUNDINGS = {
  sandbox: "s1",
  rootfs: "/pause-root",
  shm: "/pods/s1/shm",
  hostname: "web",
  cgroup: "/kubepods/pod1/quasaur-s1",
};

Deno.test("a root container is a pod's, runs nothing of the pod's and cannot write", () => {
  const config = sandboxConfig(sandboxSpec("pod1"), SURROUNDINGS);
  assert.deepEqual(config["root"], { path: "/pause-root", readonly: true });
  assert.deepEqual(objectOf(config, "process")["args"], ["/pause"]);
  assert.deepEqual(objectOf(config, "process")["capabilities"], {});
  assert.equal(config["hostname"], "web");
  assert.deepEqual(config["annotations"], {
    "io.kubernetes.cri.container-type": "sandbox",
    "io.kubernetes.cri.sandbox-id": "s1",
    "dev.gvisor.spec.mount.shm.source": "/pods/s1/shm",
    "dev.gvisor.spec.mount.shm.type": "tmpfs",
    "dev.gvisor.spec.mount.shm.share": "pod",
    "dev.gvisor.spec.mount.shm.options": "nosuid,noexec,nodev,mode=1777,size=65536k",
  });
  assert.equal(objectOf(config, "linux")["cgroupsPath"], "/kubepods/pod1/quasaur-s1");
});

Deno.test("a pod's limits are its cgroup's", () => {
  const spec = sandboxSpec("pod1", { resources: { memoryBytes: 1024, cpusetCpus: "0-1" } });
  const linux = objectOf(sandboxConfig(spec, SURROUNDINGS), "linux");
  assert.deepEqual(linux["resources"], { memory: { limit: 1024 }, cpu: { cpus: "0-1" } });
});

Deno.test("a pod without a cgroup names none", () => {
  const config = sandboxConfig(sandboxSpec("pod1"), { ...SURROUNDINGS, cgroup: "" });
  assert.equal("cgroupsPath" in objectOf(config, "linux"), false);
});

Deno.test("the network namespace is the pod's, a new one, or the host's", () => {
  const networkOf = (network: Parameters<typeof sandboxConfig>[0]["network"]) =>
    objectsOf(
      objectOf(sandboxConfig(sandboxSpec("pod1", { network }), SURROUNDINGS), "linux"),
      "namespaces",
    ).filter((namespace) => namespace["type"] === "network");
  assert.deepEqual(networkOf({ kind: "namespace", path: "/run/netns/a" }), [
    { type: "network", path: "/run/netns/a" },
  ]);
  assert.deepEqual(networkOf({ kind: "none" }), [{ type: "network" }]);
  assert.deepEqual(networkOf({ kind: "host" }), []);
  assert.throws(
    () => networkOf({ kind: "user" }),
    (error) => error instanceof SandboxError && error.code === "FailedPrecondition",
  );
});
