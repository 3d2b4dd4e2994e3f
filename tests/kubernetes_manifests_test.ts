/**
 * The manifests for Kubernetes are YAML, have the fields that Kubernetes wants, and name runtime
 * handlers that containerd's configuration has.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parseAllDocuments } from "yaml";
import { handlersOf, readKinds } from "../cli/containerd/sections.ts";
import { SANDBOXER_KINDS } from "../cli/install/layout.ts";
import { REPOSITORY } from "./support/permissions.ts";

const DIRECTORY = `${REPOSITORY}/deploy/kubernetes`;

/** A manifest, as far as it is looked at. */
type Manifest = Readonly<Record<string, unknown>>;

async function manifests(file: string): Promise<Manifest[]> {
  const documents = parseAllDocuments(await Deno.readTextFile(`${DIRECTORY}/${file}`), {
    strict: true,
    uniqueKeys: true,
  });
  assert.ok(Array.isArray(documents));
  return documents.map((document) => {
    assert.deepEqual([...document.errors, ...document.warnings], []);
    return record(document.toJS());
  });
}

function record(value: unknown): Manifest {
  assert.ok(typeof value === "object" && value !== null && !Array.isArray(value));
  return Object.fromEntries(Object.entries(value));
}

/** Checks that a manifest has no other fields than those, as an API server does. */
function onlyFields(value: Manifest, fields: readonly string[]): void {
  assert.deepEqual(Object.keys(value).filter((key) => !fields.includes(key)), []);
}

/** A name of an object: RFC 1123, as Kubernetes has it. */
const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
/** Quantities. */
const MEMORY = /^\d+(Mi|Gi)$/;
const CPU = /^\d+m?$/;

Deno.test("each runtime handler has a RuntimeClass with overhead and nodes that have the kind", async () => {
  const handlers: string[] = [];
  for (const manifest of await manifests("runtimeclasses.yaml")) {
    onlyFields(manifest, ["apiVersion", "kind", "metadata", "handler", "overhead", "scheduling"]);
    assert.deepEqual([manifest["apiVersion"], manifest["kind"]], [
      "node.k8s.io/v1",
      "RuntimeClass",
    ]);
    assert.match(String(record(manifest["metadata"])["name"]), NAME);
    handlers.push(String(manifest["handler"]));
    const overhead = record(manifest["overhead"]);
    onlyFields(overhead, ["podFixed"]);
    const { memory, cpu, ...others } = record(overhead["podFixed"]);
    assert.deepEqual(others, {});
    assert.match(String(memory), MEMORY);
    assert.match(String(cpu), CPU);
    const scheduling = record(manifest["scheduling"]);
    onlyFields(scheduling, ["nodeSelector", "tolerations"]);
    const labels = Object.entries(record(scheduling["nodeSelector"]));
    assert.equal(labels.length, 1);
    const [[label, value] = ["", ""]] = labels;
    assert.ok(SANDBOXER_KINDS.some((kind) => label === `quasaur.dev/${kind}`), label);
    // A label's value is text: true without quotes would be refused.
    assert.equal(value, "true");
  }
  assert.deepEqual(handlers.toSorted(), handlersOf(readKinds([])).toSorted());
});

Deno.test("example pods name a RuntimeClass and have limits", async () => {
  const classes = (await manifests("runtimeclasses.yaml")).map(({ metadata }) =>
    record(metadata)["name"]
  );
  for (const kind of ["wasm", "vmm", "gvisor"]) {
    const [pod, ...others] = await manifests(`pod-${kind}.yaml`);
    assert.ok(pod !== undefined && others.length === 0);
    onlyFields(pod, ["apiVersion", "kind", "metadata", "spec"]);
    assert.deepEqual([pod["apiVersion"], pod["kind"]], ["v1", "Pod"]);
    const metadata = record(pod["metadata"]);
    onlyFields(metadata, ["name", "labels", "annotations"]);
    assert.match(String(metadata["name"]), NAME);
    for (const value of Object.values(record(metadata["annotations"] ?? {}))) {
      assert.equal(typeof value, "string");
    }
    const spec = record(pod["spec"]);
    onlyFields(spec, ["runtimeClassName", "containers"]);
    assert.ok(classes.includes(spec["runtimeClassName"]));
    assert.match(String(spec["runtimeClassName"]), new RegExp(`-${kind}$`));
    assert.ok(Array.isArray(spec["containers"]) && spec["containers"].length > 0);
    for (const container of spec["containers"].map(record)) {
      onlyFields(container, ["name", "image", "command", "args", "ports", "resources"]);
      assert.match(String(container["name"]), NAME);
      assert.match(String(container["image"]), /^[a-z0-9./-]+:[\w.-]+$/);
      const limits = record(record(container["resources"])["limits"]);
      assert.match(String(limits["memory"]), MEMORY);
      for (const list of [container["command"], container["args"]]) {
        if (list === undefined) continue;
        assert.ok(Array.isArray(list) && list.every((item) => typeof item === "string"));
      }
    }
  }
});
