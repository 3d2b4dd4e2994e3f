import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { SavedMachine } from "../hypervisor.ts";
import { eventually, Fixture, NEVER, withFixture } from "./testing/fixture.ts";

function test(name: string, body: (fixture: Fixture) => Promise<void>): void {
  Deno.test(`templates: ${name}`, () => withFixture(body));
}

/** What is left of making templates beside the templates: nothing. */
async function nothingIsLeft(fixture: Fixture): Promise<void> {
  assert.deepEqual(fixture.world.running, []);
  assert.deepEqual(await fixture.names("machines"), []);
  assert.deepEqual(await fixture.names("ledger"), []);
  assert.equal(fixture.agents, 0);
  const all = await fixture.names("templates");
  assert.deepEqual(all.filter((name) => name.startsWith(".new-")), []);
}

/** The names of the templates on disk. */
async function kept(fixture: Fixture): Promise<string[]> {
  return (await fixture.names("templates")).filter((name) => !name.startsWith("."));
}

/** How often a template was made. */
function builds({ gate }: Fixture): number {
  return gate.steps.filter((step) => step === "boot").length;
}

test("the first who asks has one made, all others get the same", async (fixture) => {
  const templates = fixture.templates();
  const asked = [1, 2, 3].map(() => templates.get(fixture.spec(), NEVER));
  const found = await Promise.all(asked);
  assert.ok(found[0]);
  assert.deepEqual(new Set(found.map((saved) => saved?.directory)).size, 1);
  assert.deepEqual(fixture.gate.steps, ["boot", "agent", "agent.quiesce", "save", "stop"]);
  assert.equal((await templates.get(fixture.spec(), NEVER))?.directory, found[0].directory);
  assert.equal(builds(fixture), 1);
  await nothingIsLeft(fixture);
  await templates.close();
});

test("the next sandboxer finds them again", async (fixture) => {
  const first = fixture.templates();
  const made = await first.get(fixture.spec(), NEVER);
  await first.close();
  const next = new Fixture(fixture.directory, fixture.world);
  const found = await next.templates().get(next.spec(), NEVER);
  assert.equal(found?.directory, made?.directory);
  assert.equal(builds(next), 0);
});

test("another machine, kernel or VMM has another template", async (fixture) => {
  const templates = fixture.templates({ countMax: 9 });
  const first = await templates.get(fixture.spec(), NEVER);
  const bigger = await templates.get(fixture.spec({ memoryBytes: 256 << 20 }), NEVER);
  assert.notEqual(bigger?.directory, first?.directory);
  await Deno.writeTextFile(`${fixture.directory}/vmlinux`, "a newer kernel");
  const newer = await templates.get(fixture.spec(), NEVER);
  assert.notEqual(newer?.directory, first?.directory);
  assert.equal(builds(fixture), 3);
  const host = { hypervisor: "fake 2.0", bootId: "boot-1", tscKhz: 2_600_000 };
  const upgraded = fixture.templates({ host, countMax: 9 });
  assert.ok(await upgraded.get(fixture.spec(), NEVER));
  assert.equal(builds(fixture), 4);
  // Another process may still use that VMM.
  assert.equal((await kept(fixture)).length, 4);
});

test("those of an earlier start of the host are removed", async (fixture) => {
  const first = await fixture.templates().get(fixture.spec(), NEVER);
  const host = { hypervisor: "fake 1.0", bootId: "boot-2", tscKhz: 2_600_000 };
  const second = await fixture.templates({ host }).get(fixture.spec(), NEVER);
  assert.ok(second);
  assert.notEqual(second.directory, first?.directory);
  assert.equal((await kept(fixture)).length, 1);
});

test("one that was changed on disk is made again", async (fixture) => {
  const templates = fixture.templates();
  const first = await templates.get(fixture.spec(), NEVER);
  await Deno.truncate(`${first?.directory}/memory`, 3);
  const second = await templates.get(fixture.spec(), NEVER);
  assert.ok(second);
  assert.notEqual(second.directory, first?.directory);
  await templates.close();
  assert.equal((await kept(fixture)).length, 1);
});

test("one whose content is damaged is not used by the next sandboxer", async (fixture) => {
  const first = fixture.templates();
  const made = await first.get(fixture.spec(), NEVER);
  const state = `${made?.directory}/state`;
  const { mtime } = await Deno.stat(state);
  const text = await Deno.readTextFile(state);
  await Deno.writeTextFile(state, text.replace("state", "STATE"));
  await Deno.utime(state, mtime ?? 0, mtime ?? 0);
  const second = fixture.templates();
  const found = await second.get(fixture.spec(), NEVER);
  assert.ok(found);
  assert.notEqual(found.directory, made?.directory);
  assert.ok(fixture.said("is not as it was written"));
});

test("what a killed sandboxer left unfinished is removed, its machine too", async (fixture) => {
  const unfinished = `${fixture.templateDirectory}/.new-dead`;
  await Deno.mkdir(unfinished, { recursive: true });
  await Deno.writeTextFile(`${unfinished}/.lock-`, "");
  const place = { ...await fixture.places.make(""), memoryFile: `${unfinished}/memory` };
  const machine = await fixture.hypervisor.boot(fixture.spec(), place);
  await fixture.ledger.add(place, machine);
  assert.equal(fixture.world.running.length, 1);
  const next = new Fixture(fixture.directory, fixture.world);
  await next.recover();
  assert.deepEqual(fixture.world.running, []);
  assert.ok(await next.templates().get(next.spec(), NEVER));
  await nothingIsLeft(next);
});

test("what another process is working at stays, and is waited for", async (fixture) => {
  const hold = fixture.gate.hold("agent");
  const first = fixture.templates();
  const other = new Fixture(fixture.directory, fixture.world);
  const second = other.templates();
  const asked = first.get(fixture.spec(), NEVER);
  await hold.reached;
  const alsoAsked = second.get(other.spec(), NEVER);
  await new Promise((resolve) => setTimeout(resolve, 60));
  hold.release();
  const [made, found] = await Promise.all([asked, alsoAsked]);
  assert.ok(made);
  assert.equal(found?.directory, made.directory);
  assert.equal(builds(other), 0);
  await nothingIsLeft(fixture);
});

test("one that another process removed and made anew is found", async (fixture) => {
  const first = fixture.templates();
  const second = fixture.templates();
  const made = await first.get(fixture.spec(), NEVER);
  assert.equal((await second.get(fixture.spec(), NEVER))?.directory, made?.directory);
  assert.ok(made);
  first.reject(made);
  fixture.clock.advance(1001);
  const anew = await first.get(fixture.spec(), NEVER);
  assert.equal((await second.get(fixture.spec(), NEVER))?.directory, anew?.directory);
  assert.equal(builds(fixture), 2);
});

test("waiting for another process ends with the sandboxer", async (fixture) => {
  const hold = fixture.gate.hold("agent");
  const first = fixture.templates();
  const second = fixture.templates();
  const asked = first.get(fixture.spec(), NEVER);
  await hold.reached;
  const alsoAsked = second.get(fixture.spec(), NEVER);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await second.close();
  assert.equal(await alsoAsked, undefined);
  hold.release();
  assert.ok(await asked);
});

for (const step of ["boot", "agent", "agent.quiesce", "save"]) {
  test(`a fault at "${step}" means that pods are booted, and it is tried again later`, async (fixture) => {
    fixture.gate.fail(step, new SandboxError("Internal", "made up"));
    const templates = fixture.templates();
    assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
    await nothingIsLeft(fixture);
    assert.ok(fixture.said("made up"));
    assert.equal(await templates.get(fixture.spec(), NEVER), undefined, "not at once");
    assert.equal(builds(fixture), 1);
    fixture.clock.advance(1001);
    assert.ok(await templates.get(fixture.spec(), NEVER));
    await nothingIsLeft(fixture);
  });
}

test("it is tried less and less often, but never given up", async (fixture) => {
  const templates = fixture.templates();
  let pauseMs = 1000;
  for (let failures = 1; failures <= 14; failures++) {
    fixture.gate.fail("boot", new SandboxError("Internal", "made up"));
    assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
    assert.equal(builds(fixture), failures);
    fixture.clock.advance(pauseMs - 1);
    assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
    assert.equal(builds(fixture), failures, `tried again within ${pauseMs} ms`);
    fixture.clock.advance(1);
    pauseMs = Math.min(600_000, 2 * pauseMs);
  }
  assert.ok(await templates.get(fixture.spec(), NEVER));
});

test("a machine that dies while it is prepared fails the making, not the pod", async (fixture) => {
  for (const step of ["agent", "agent.quiesce", "save"]) {
    const hold = fixture.gate.hold(step);
    const templates = fixture.templates();
    const asked = templates.get(fixture.spec(), NEVER);
    await hold.reached;
    fixture.world.running[0]?.crash("crash", "killed by SIGBUS");
    assert.equal(await asked, undefined, step);
    assert.ok(fixture.said("killed by SIGBUS: is the file system full?"));
    hold.release(new SandboxError("Unavailable", "too late"));
    await templates.close();
    await eventually(() => fixture.agents === 0);
    await nothingIsLeft(fixture);
    fixture.lines.length = 0;
  }
});

test("an agent that never answers is given up", async (fixture) => {
  const hold = fixture.gate.hold("agent");
  const templates = fixture.templates({ buildTimeoutMs: 20 });
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
  hold.release(new SandboxError("Unavailable", "too late"));
  await nothingIsLeft(fixture);
});

test("whoever gives up does not stop it for the others", async (fixture) => {
  const hold = fixture.gate.hold("boot");
  const templates = fixture.templates();
  const impatient = new AbortController();
  const first = templates.get(fixture.spec(), impatient.signal);
  const second = templates.get(fixture.spec(), NEVER);
  await hold.reached;
  impatient.abort();
  await assert.rejects(
    first,
    (error) => error instanceof SandboxError && error.code === "Cancelled",
  );
  hold.release();
  assert.ok(await second);
  assert.equal(builds(fixture), 1);
});

test("while one is made nobody waits for another kind", async (fixture) => {
  const hold = fixture.gate.hold("boot");
  const templates = fixture.templates();
  const first = templates.get(fixture.spec(), NEVER);
  await hold.reached;
  const other = fixture.spec({ memoryBytes: 256 << 20 });
  assert.equal(await templates.get(other, NEVER), undefined);
  hold.release();
  assert.ok(await first);
  await eventually(() => builds(fixture) === 2);
  await eventually(async () => await templates.get(other, NEVER) !== undefined);
  assert.equal(builds(fixture), 2);
});

test("a full disk is told before the guest dies of it", async (fixture) => {
  let freeBytes = 64 << 20;
  const templates = fixture.templates({ freeBytes: () => Promise.resolve(freeBytes) });
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
  assert.equal(builds(fixture), 0);
  assert.ok(fixture.said("136 MiB and 64 MiB are free: set template.directory"));
  await nothingIsLeft(fixture);
  freeBytes = 1 << 30;
  fixture.clock.advance(1001);
  assert.ok(await templates.get(fixture.spec(), NEVER));
});

test("a disk that is full only when it is written to fails no pod", async (fixture) => {
  fixture.gate.fail("save", new Error("No space left on device (os error 28)"));
  const templates = fixture.templates();
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
  assert.ok(fixture.said("No space left"));
  await nothingIsLeft(fixture);
});

test("a directory that cannot be made fails no pod", async (fixture) => {
  await Deno.writeTextFile(fixture.templateDirectory, "not a directory");
  const templates = fixture.templates();
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
  await Deno.remove(fixture.templateDirectory);
  fixture.clock.advance(1001);
  assert.ok(await templates.get(fixture.spec(), NEVER));
});

test("a missing kernel fails no pod here: the boot will tell", async (fixture) => {
  const templates = fixture.templates();
  assert.equal(await templates.get(fixture.spec({ kernel: "/missing" }), NEVER), undefined);
  assert.ok(fixture.said("/missing"));
});

test("one whose clone failed is made again", async (fixture) => {
  const templates = fixture.templates();
  const first = await templates.get(fixture.spec(), NEVER);
  assert.ok(first);
  templates.reject(first);
  templates.reject(first);
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined, "not at once");
  fixture.clock.advance(1001);
  const second = await templates.get(fixture.spec(), NEVER);
  assert.ok(second);
  assert.notEqual(second.directory, first.directory);
  templates.reject(first);
  assert.ok(await templates.get(fixture.spec(), NEVER), "an old one says nothing about the new");
  await templates.close();
  assert.equal((await kept(fixture)).length, 1);
});

test("not more are kept than may be, and those in use stay", async (fixture) => {
  const templates = fixture.templates({ countMax: 2 });
  const saved: (SavedMachine | undefined)[] = [];
  const make = async (memoryMb: number) => {
    saved.push(await templates.get(fixture.spec({ memoryBytes: memoryMb << 20 }), NEVER));
  };
  await make(100);
  fixture.clock.advance(1);
  await make(200);
  fixture.clock.advance(1);
  await make(300);
  assert.equal((await kept(fixture)).length, 3, "their clones may be starting");
  fixture.clock.advance(61_000);
  await make(200);
  await make(400);
  await templates.close();
  const left = (await kept(fixture)).map((name) => `${fixture.templateDirectory}/${name}`);
  assert.deepEqual(left, [saved[1]?.directory, saved[4]?.directory].sort());
});

test("machines with a shared tree have one where somebody serves it meanwhile", async (fixture) => {
  const spec = fixture.spec({ sharedTree: true });
  const without = fixture.templates();
  assert.equal(await without.get(spec, NEVER), undefined);
  assert.equal(builds(fixture), 0);
  let served = 0;
  const sharedTree = () => {
    served++;
    return Promise.resolve({
      socket: "/tree.sock",
      stop: () => {
        served--;
        return Promise.resolve();
      },
    });
  };
  const templates = fixture.templates({ sharedTree });
  assert.ok(await templates.get(spec, NEVER));
  assert.equal(served, 0);
  assert.equal(fixture.world.machines.at(-1)?.place.sharedTreeSocket, "/tree.sock");
});

test("once closed there are none, and what was being made is ended", async (fixture) => {
  const hold = fixture.gate.hold("agent");
  const templates = fixture.templates();
  const asked = templates.get(fixture.spec(), NEVER);
  await hold.reached;
  const closed = templates.close();
  assert.equal(await asked, undefined);
  hold.release(new SandboxError("Unavailable", "too late"));
  await closed;
  assert.equal(await templates.get(fixture.spec(), NEVER), undefined);
  await nothingIsLeft(fixture);
});
