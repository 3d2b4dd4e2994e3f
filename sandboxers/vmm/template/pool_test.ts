import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Machine } from "../hypervisor.ts";
import type { PlacedMachine } from "../machines.ts";
import type { Pool } from "./pool.ts";
import { eventually, Fixture, withFixture } from "./testing/fixture.ts";

function test(name: string, body: (fixture: Fixture) => Promise<void>): void {
  Deno.test(`pool: ${name}`, () => withFixture(body));
}

/** Ends a machine that was taken. */
async function end(fixture: Fixture, taken: PlacedMachine | undefined): Promise<void> {
  await taken?.machine.stop();
  if (taken !== undefined) await fixture.places.free(taken.place);
}

/** Ends a pool; nothing is left of it. */
async function close(fixture: Fixture, pool: Pool): Promise<void> {
  await pool.close();
  assert.deepEqual(fixture.world.running, []);
  assert.deepEqual(await fixture.names("machines"), []);
  assert.deepEqual(await fixture.names("ledger"), []);
}

test("machines of a kind that is wanted are loaded and stand still", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  assert.deepEqual(fixture.world.running.map(({ paused }) => paused), [true, true]);
  assert.equal((await fixture.names("ledger")).length, 2);
  await close(fixture, pool);
});

test("machines rehearse before they stand still", async (fixture) => {
  const seen: boolean[] = [];
  const rehearse = (machine: Machine) => {
    seen.push(fixture.world.running.some((one) => one === machine && !one.paused));
    return Promise.resolve();
  };
  const pool = fixture.pool(fixture.templates(), { rehearse });
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  assert.deepEqual(seen, [true, true]);
  assert.deepEqual(fixture.world.running.map(({ paused }) => paused), [true, true]);
  await close(fixture, pool);
});

test("a machine whose rehearsal fails is not kept, and nothing of it is", async (fixture) => {
  let tried = 0;
  const rehearse = () => {
    tried++;
    return Promise.reject(new SandboxError("Internal", "no"));
  };
  const pool = fixture.pool(fixture.templates(), { rehearse });
  pool.want(fixture.spec());
  await eventually(() => tried > 0 && fixture.world.running.length === 0);
  assert.equal(pool.count, 0);
  await close(fixture, pool);
});

test("who takes one gets the oldest, and another one is made", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const [oldest] = fixture.world.running;
  const taken = pool.take(fixture.spec());
  assert.equal(taken?.machine, oldest);
  assert.equal(pool.count, 1);
  await eventually(() => pool.count === 2);
  assert.equal(fixture.world.running.length, 3);
  await end(fixture, taken);
  await close(fixture, pool);
});

test("what is asked for in vain is there the next time", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  assert.equal(pool.take(fixture.spec()), undefined);
  await eventually(() => pool.count === 2);
  const taken = pool.take(fixture.spec());
  assert.ok(taken);
  await end(fixture, taken);
  await close(fixture, pool);
});

test("a machine with a shared tree is never in it, and with size 0 none is", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  assert.equal(pool.take(fixture.spec({ sharedTree: true })), undefined);
  const empty = fixture.pool(fixture.templates(), { size: 0 });
  assert.equal(empty.take(fixture.spec()), undefined);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual(fixture.gate.steps, []);
  await empty.close();
  await close(fixture, pool);
});

test("none is made while a pod is starting", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  const first = pool.hold();
  const second = pool.hold();
  pool.want(fixture.spec());
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(fixture.world.machines.length, 0);
  second[Symbol.dispose]();
  await eventually(() => pool.count === 2);
  await close(fixture, pool);
});

test("they are made one at a time", async (fixture) => {
  const pool = fixture.pool(fixture.templates(), { size: 3 });
  const hold = fixture.gate.hold("clone");
  pool.want(fixture.spec());
  pool.want(fixture.spec({ memoryBytes: 256 << 20 }));
  await hold.reached;
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(fixture.gate.steps.filter((step) => step === "clone").length, 1);
  hold.release();
  await eventually(() => pool.count === 6);
  await close(fixture, pool);
});

test("one that dies is dropped and replaced", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const [dead] = fixture.world.running;
  dead?.crash();
  await eventually(() => pool.count === 2 && fixture.world.running.length === 2);
  assert.ok(fixture.said("has ended"));
  const taken = pool.take(fixture.spec());
  assert.notEqual(taken?.machine, dead);
  await end(fixture, taken);
  await close(fixture, pool);
});

test("one that is too old is replaced", async (fixture) => {
  const pool = fixture.pool(fixture.templates(), { ageMaxMs: 1000 });
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const old = [...fixture.world.running];
  fixture.clock.advance(1001);
  await eventually(() => old.every((machine) => machine.end !== undefined));
  await eventually(() => pool.count === 2);
  await close(fixture, pool);
});

test("clones of a template that was replaced are replaced too", async (fixture) => {
  const templates = fixture.templates();
  const pool = fixture.pool(templates);
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const old = [...fixture.world.running];
  await Deno.writeTextFile(`${fixture.directory}/initrd`, "a newer agent");
  await eventually(() => old.every((machine) => machine.end !== undefined));
  await eventually(() => pool.count === 2);
  await close(fixture, pool);
});

test("a clone that fails is tried again later, of a new template", async (fixture) => {
  const templates = fixture.templates();
  const pool = fixture.pool(templates);
  fixture.gate.fail("clone", new SandboxError("Internal", "the state is damaged"));
  pool.want(fixture.spec());
  await eventually(() => fixture.said("the state is damaged"));
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(pool.count, 0);
  assert.deepEqual(await fixture.names("machines"), []);
  fixture.clock.advance(5000);
  await eventually(() => pool.count === 2);
  assert.equal(fixture.gate.steps.filter((step) => step === "boot").length, 2);
  await close(fixture, pool);
});

test("a disk that is full leaves no machine without a note", async (fixture) => {
  const templates = fixture.templates();
  await templates.get(fixture.spec(), new AbortController().signal);
  await Deno.remove(`${fixture.directory}/ledger`);
  await Deno.writeTextFile(`${fixture.directory}/ledger`, "in the way");
  const pool = fixture.pool(templates);
  pool.want(fixture.spec());
  await eventually(() => fixture.said("cannot keep a machine ready"));
  await eventually(() => fixture.world.running.length === 0);
  assert.deepEqual(await fixture.names("machines"), []);
  await Deno.remove(`${fixture.directory}/ledger`);
  await close(fixture, pool);
});

test("kinds that nobody asks for any more are dropped, those that are wanted stay", async (fixture) => {
  const pool = fixture.pool(fixture.templates({ countMax: 9 }), { size: 1 });
  pool.want(fixture.spec());
  for (const memoryMb of [200, 300, 400, 500]) {
    fixture.clock.advance(1);
    const spec = fixture.spec({ memoryBytes: memoryMb << 20 });
    pool.take(spec);
  }
  await eventually(() => pool.count === 4);
  assert.equal(pool.take(fixture.spec({ memoryBytes: 200 << 20 })), undefined);
  fixture.clock.advance(16 * 60_000);
  await eventually(() => pool.count === 1 && fixture.world.running.length === 1);
  const taken = pool.take(fixture.spec());
  assert.ok(taken);
  await end(fixture, taken);
  await close(fixture, pool);
});

test("the next sandboxer ends what a killed one kept ready, not what a pod had taken", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const taken = pool.take(fixture.spec());
  await eventually(() => pool.count === 2);
  // The killed one does nothing any more.
  pool.hold();
  fixture.gate.close();
  const next = new Fixture(fixture.directory, fixture.world);
  await next.recover(new Set([taken?.place.directory ?? ""]));
  assert.deepEqual(next.world.running, [taken?.machine]);
  assert.deepEqual(await next.names("ledger"), []);
  assert.deepEqual(await next.names("machines"), [taken?.place.id]);
  // Its timer must not outlive the test.
  void pool.close();
});

test("a machine that cannot be ended is tried again at the next start", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  // The killed one does nothing any more.
  pool.hold();
  fixture.gate.close();
  const next = new Fixture(fixture.directory, fixture.world);
  next.gate.fail("adopt", new SandboxError("Unavailable", "made up"));
  await next.recover();
  assert.equal((await next.names("ledger")).length, 1);
  const third = new Fixture(fixture.directory, fixture.world);
  await third.recover();
  assert.deepEqual(await third.names("ledger"), []);
  void pool.close();
});

test("notes that cannot be read are dropped", async (fixture) => {
  await Deno.mkdir(`${fixture.directory}/ledger`);
  for (const [index, text] of ["", "{", "[]", '{"directory":1}', '{"directory":"/x"}'].entries()) {
    await Deno.writeTextFile(`${fixture.directory}/ledger/${index}.json`, text);
  }
  await fixture.recover();
  assert.deepEqual(await fixture.names("ledger"), []);
  assert.deepEqual(fixture.gate.steps, []);
});

test("once closed it gives none, and what was being made is ended", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  const hold = fixture.gate.hold("clone");
  pool.want(fixture.spec());
  await hold.reached;
  const closed = pool.close();
  hold.release();
  await closed;
  assert.equal(pool.take(fixture.spec()), undefined);
  await close(fixture, pool);
});

test("the end of a machine that a pod took is the pod's business", async (fixture) => {
  const pool = fixture.pool(fixture.templates());
  pool.want(fixture.spec());
  await eventually(() => pool.count === 2);
  const taken = pool.take(fixture.spec());
  await eventually(() => pool.count === 2);
  const before = (await fixture.names("ledger")).length;
  await end(fixture, taken);
  await eventually(async () => (await fixture.names("ledger")).length === before - 1);
  assert.equal(pool.count, 2);
  await close(fixture, pool);
});
