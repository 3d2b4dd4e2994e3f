import assert from "node:assert/strict";
import { refusal } from "../lifecycle/testing/refused.ts";
import { containerOf, findTarget, type TargetSandbox } from "./targets.ts";

function sandbox(
  id: string,
  name: string,
  containers: readonly (readonly [string, string])[] = [],
  labels: Record<string, string> = {},
): TargetSandbox {
  return { id, name, labels, containers: containers.map(([id, name]) => ({ id, name })) };
}

const PODS = [
  sandbox("aa11", "web", [["c0ffee", "nginx"], ["c0ffer", "sidecar"]]),
  sandbox("aa22", "db", [["d00d", "postgres"]]),
  sandbox("bb33", "web", [["beef", "nginx"]], { "io.kubernetes.pod.namespace": "other" }),
  sandbox("cc44", "", [], { "io.kubernetes.pod.name": "labelled" }),
  sandbox("web", "shadow"),
];

function found(target: string): string {
  const { sandbox, container } = findTarget(PODS, target);
  return container === undefined ? sandbox.id : `${sandbox.id} ${container.id}`;
}

Deno.test("a target is an id, a name, a label, a prefix, or a container in a sandbox", () => {
  assert.equal(found("aa11"), "aa11");
  assert.equal(found("db"), "aa22");
  assert.equal(found("labelled"), "cc44");
  assert.equal(found("c0ffee"), "aa11 c0ffee");
  assert.equal(found("postgres"), "aa22 d00d");
  assert.equal(found("bb"), "bb33");
  assert.equal(found("be"), "bb33 beef");
  assert.equal(found("db/postgres"), "aa22 d00d");
  assert.equal(found("aa1/nginx"), "aa11 c0ffee");
});

Deno.test("an id counts before a name", () => {
  assert.equal(found("web"), "web");
});

Deno.test("a target that fits several is refused with those that it fits", () => {
  assert.throws(
    () => found("nginx"),
    refusal("InvalidArgument", /fits 2.*c0ffee.*beef.*SANDBOX\//),
  );
  assert.throws(() => found("aa"), refusal("InvalidArgument", /fits 2.*"web" \(aa11\).*aa22/));
  assert.throws(() => found("c0ff"), refusal("InvalidArgument", /fits 2/));
});

Deno.test("a target that fits none is refused with what there is", () => {
  assert.throws(() => found("webb"), refusal("NotFound", /"webb" found: similar ones are.*aa11/));
  assert.throws(() => found("zzz"), refusal("NotFound", /"zzz" found: there are .*aa22/));
  assert.throws(() => findTarget([], "x"), refusal("NotFound", /there are no sandboxes/));
  assert.throws(() => found(""), refusal("InvalidArgument", /empty name/));
  assert.throws(() => found("x".repeat(600)), refusal("InvalidArgument", /600 characters/));
});

Deno.test("candidates are few however many there are", () => {
  const many = Array.from({ length: 1000 }, (_, i) => sandbox(`same${i}`, `pod-${i}`));
  assert.throws(
    () => findTarget(many, "same"),
    (error: Error) => error.message.length < 400 && /and 995 more/.test(error.message),
  );
});

Deno.test("a sandbox stands for its only container, and for none of several", () => {
  assert.equal(containerOf(findTarget(PODS, "db"), "cannot kill").id, "d00d");
  assert.equal(containerOf(findTarget(PODS, "c0ffer"), "cannot kill").id, "c0ffer");
  assert.throws(
    () => containerOf(findTarget(PODS, "aa11"), "cannot kill"),
    refusal(
      "FailedPrecondition",
      /^cannot kill sandbox .*2 containers: .*"web\/nginx", "web\/side/,
    ),
  );
  assert.throws(
    () => containerOf(findTarget(PODS, "cc44"), "cannot kill"),
    refusal("FailedPrecondition", /no container/),
  );
});
