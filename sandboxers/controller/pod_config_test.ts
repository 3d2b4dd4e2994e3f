import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import { ControllerCreateRequestSchema } from "../../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { NamespaceMode, PodSandboxConfigSchema } from "../../proto/gen/runtime/v1/pod_pb.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { sandboxSpec } from "./pod_config.ts";

type Config = MessageInitShape<typeof PodSandboxConfigSchema>;
type Request = MessageInitShape<typeof ControllerCreateRequestSchema>;

const onNode: Config = {
  linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } },
};

function specOf(config: Config | undefined, request: Request = {}): SandboxSpec {
  const full = create(ControllerCreateRequestSchema, request);
  full.sandboxId = "a1";
  if (config !== undefined) {
    full.options = create(AnySchema, {
      typeUrl: PodSandboxConfigSchema.typeName,
      value: toBinary(PodSandboxConfigSchema, create(PodSandboxConfigSchema, config)),
    });
  }
  return sandboxSpec(full, "k8s.io");
}

function refuses(field: RegExp, config: Config | undefined, request: Request = {}): void {
  assert.throws(() => specOf(config, request), { code: "InvalidArgument", message: field });
}

Deno.test("sandboxSpec() reads a pod as CRI sends it", () => {
  const spec = specOf({
    metadata: { name: "web", namespace: "prod", uid: "u", attempt: 1 },
    hostname: "web-0",
    dnsConfig: { servers: ["10.96.0.10"], searches: ["svc.cluster.local"], options: ["ndots:5"] },
    labels: { app: "web" },
    annotations: { "example.com/a": "b" },
    linux: {
      cgroupParent: "/kubepods/pod1",
      resources: { memoryLimitInBytes: 1000n },
      overhead: { memoryLimitInBytes: 24n },
    },
  }, { netnsPath: "/var/run/netns/cni-1" });
  assert.deepEqual(spec, {
    id: "a1",
    namespace: "k8s.io",
    name: "prod/web",
    hostname: "web-0",
    network: { kind: "namespace", path: "/var/run/netns/cni-1" },
    dns: { servers: ["10.96.0.10"], searches: ["svc.cluster.local"], options: ["ndots:5"] },
    cgroupParent: "/kubepods/pod1",
    resources: { memoryBytes: 1024 },
    labels: { app: "web" },
    annotations: { "example.com/a": "b" },
  });
});

Deno.test("sandboxSpec() tells the runtime type of the handler that was asked for", () => {
  const name = "io.containerd.quasaur-wasm-process.v1";
  assert.equal(specOf(onNode, { sandbox: { runtime: { name } } }).runtime, name);
  assert.ok(!("runtime" in specOf(onNode)));
  assert.ok(!("runtime" in specOf(onNode, { sandbox: { runtime: { name: "" } } })));
});

Deno.test("sandboxSpec() without a pod config takes what the sandbox message says", () => {
  const spec = specOf(undefined, {
    sandbox: { sandboxId: "a1", labels: { name: "mine", tier: "one" } },
    annotations: { note: "x" },
  });
  assert.equal(spec.name, "mine");
  assert.deepEqual(spec.network, { kind: "host" });
  assert.deepEqual(spec.labels, { name: "mine", tier: "one" });
  assert.deepEqual(spec.annotations, { note: "x" });
  assert.equal(specOf(undefined).name, "a1");
});

Deno.test("sandboxSpec() takes type URLs with a host part", () => {
  const value = toBinary(PodSandboxConfigSchema, create(PodSandboxConfigSchema, onNode));
  const typeUrl = "type.googleapis.com/runtime.v1.PodSandboxConfig";
  assert.deepEqual(specOf(undefined, { options: { typeUrl, value } }).network, { kind: "host" });
});

Deno.test("sandboxSpec() puts a pod on the host's network only where the pod says so", () => {
  assert.deepEqual(specOf(onNode).network, { kind: "host" });
  refuses(/netns_path/, {});
  refuses(/netns_path/, onNode, { netnsPath: "/var/run/netns/x" });
});

Deno.test("sandboxSpec() refuses a path of a network namespace that is none", () => {
  for (const netnsPath of ["netns/x", "./x", "/var/../x", "/x\0y"]) {
    refuses(/netns_path/, {}, { netnsPath });
  }
});

Deno.test("sandboxSpec() refuses what would break into resolv.conf", () => {
  const linux = onNode.linux;
  assert.ok(linux !== undefined);
  refuses(/dns_config\.servers/, {
    linux,
    dnsConfig: { servers: ["1.1.1.1\nnameserver 6.6.6.6"] },
  });
  refuses(/dns_config\.searches/, { linux, dnsConfig: { searches: ["a b"] } });
  refuses(/dns_config\.options/, { linux, dnsConfig: { options: [""] } });
});

Deno.test("sandboxSpec() refuses hostnames that Linux cannot set", () => {
  const linux = onNode.linux;
  assert.ok(linux !== undefined);
  refuses(/hostname/, { linux, hostname: "x".repeat(65) });
  refuses(/hostname/, { linux, hostname: "a\nb" });
  assert.equal(specOf({ linux, hostname: "x".repeat(64) }).hostname.length, 64);
});

Deno.test("sandboxSpec() refuses a cgroup that leads elsewhere", () => {
  refuses(/cgroup_parent/, { linux: { ...onNode.linux, cgroupParent: "/a/../../b" } });
});

Deno.test("sandboxSpec() keeps labels whose names mean something to JavaScript", () => {
  const labels = Object.fromEntries([["constructor", "1"], ["toString", "2"]]);
  const spec = specOf({ ...onNode, labels });
  assert.equal(spec.labels["constructor"], "1");
  assert.equal(spec.labels["toString"], "2");
  assert.equal(specOf(undefined, { sandbox: { labels: {} } }).name, "a1");
});

Deno.test("sandboxSpec() takes or refuses any bytes, and nothing else happens", () => {
  const config = create(PodSandboxConfigSchema, {
    ...onNode,
    metadata: { name: "web", namespace: "prod" },
    dnsConfig: { servers: ["10.96.0.10"] },
    labels: { app: "web" },
    hostname: "web-0",
  });
  const valid = toBinary(PodSandboxConfigSchema, config);
  const random = randomBytes(20261122);
  const refused: string[] = [];
  for (let round = 0; round < 5000; round++) {
    const value = valid.slice(0, round % 3 === 0 ? random() % valid.length : valid.length);
    for (let n = random() % 4; n >= 0; n--) value[random() % (value.length + 1)] = random();
    try {
      const spec = specOf(undefined, {
        options: { typeUrl: PodSandboxConfigSchema.typeName, value },
      });
      assert.equal(spec.id, "a1");
    } catch (error) {
      assert.ok(error instanceof SandboxError, String(error));
      assert.equal(error.code, "InvalidArgument");
      refused.push(error.message);
    }
  }
  assert.ok(refused.length > 1000 && refused.length < 5000, `${refused.length} refused`);
});

/** Bytes that look random and are the same in every run (xorshift32). */
function randomBytes(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 0xff;
  };
}
