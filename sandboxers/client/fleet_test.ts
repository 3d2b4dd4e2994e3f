import assert from "node:assert/strict";
import { refusal, refused } from "../lifecycle/testing/refused.ts";
import { sandboxSpec } from "../lifecycle/testing/specs.ts";
import { Managed } from "../management/fixture.ts";
import { Fleet } from "./fleet.ts";

/** Two sandboxers with a client of both. */
async function twoSandboxers() {
  const stack = new AsyncDisposableStack();
  const one = stack.use(await Managed.serve());
  const two = stack.use(await Managed.serve());
  await one.world.running("aa11", "c1");
  await two.world.running("aa22", "c2");
  await two.world.sandboxer.createSandbox(sandboxSpec("bb33", { name: "web" }));
  const fleet = stack.use(await Fleet.open({ addresses: [one.path, two.path] }));
  return { one, two, fleet, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

Deno.test("a fleet lists the sandboxes of all sandboxers", async () => {
  await using all = await twoSandboxers();
  const { found } = await all.fleet.listAnswering();
  assert.deepEqual(found.map(({ sandbox }) => sandbox.id), ["aa11", "aa22", "bb33"]);
  assert.deepEqual((await all.fleet.infos()).map(({ info }) => info.kind), ["fake", "fake"]);
  assert.equal((await all.fleet.ofKind("fake"))?.address, all.one.path);
  assert.equal(await all.fleet.ofKind("wasm"), undefined);
});

Deno.test("a fleet finds what is meant in whichever sandboxer it is", async () => {
  await using all = await twoSandboxers();
  const { fleet, one, two } = all;
  const web = await fleet.resolve("web");
  assert.deepEqual([web.client.address, web.sandbox.id], [two.path, "bb33"]);
  const container = await fleet.resolveContainer("aa1", "cannot kill");
  assert.deepEqual([container.client.address, container.container.id], [one.path, "c1"]);
  await assert.rejects(fleet.resolve("aa"), refusal("InvalidArgument", /"aa" fits 2/));
  await assert.rejects(fleet.resolve("zz"), refusal("NotFound", /"zz" found: there are/));
  await assert.rejects(
    fleet.resolveContainer("web", "cannot kill"),
    refusal("FailedPrecondition", /^cannot kill .*no container/),
  );
});

Deno.test("a fleet without sandboxers says what to do", async () => {
  using fleet = await Fleet.open({ defaults: [] });
  assert.deepEqual(await fleet.listAnswering(), { found: [], problems: [] });
  await assert.rejects(fleet.resolve("x"), refusal("Unavailable", /no sandboxer.*--address/));
});

Deno.test("a fleet finds what is meant where a sandboxer does not answer, and says so where not", async () => {
  await using all = await twoSandboxers();
  const { fleet, one, two } = all;
  await one[Symbol.asyncDispose]();
  assert.equal((await fleet.resolve("web")).sandbox.id, "bb33");
  assert.equal((await fleet.ofKind("fake"))?.address, two.path);
  await refused(fleet.ofKind("wasm"), "Unavailable", /cannot ask what serves at/);
  await assert.rejects(
    fleet.resolve("aa1"),
    refusal("Unavailable", /no sandbox or container "aa1" found where .*; cannot list/),
  );
  const { found, problems } = await fleet.listAnswering();
  assert.deepEqual(found.map(({ sandbox }) => sandbox.id), ["aa22", "bb33"]);
  assert.match(problems[0]?.message ?? "", /cannot list the sandboxes at/);
  await two[Symbol.asyncDispose]();
  await refused(fleet.listAnswering(), "Unavailable", /cannot list/);
});
