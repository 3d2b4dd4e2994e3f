import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { Tickets } from "./tickets.ts";

/** Tickets that note what they close. */
function tickets(waitMs: number) {
  const closed: number[] = [];
  return { closed, tickets: new Tickets((fd) => void closed.push(fd), waitMs) };
}

async function untilClosed(closed: readonly number[], count: number): Promise<void> {
  for (let i = 0; closed.length < count && i < 2_000; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(closed.length, count);
}

Deno.test("descriptors are found whether they come before or after they are asked for", async () => {
  const world = tickets(50);
  world.tickets.add(1, [10, 11]);
  using early = await world.tickets.take(1);
  assert.deepEqual(early.descriptors, [10, 11]);
  const waiting = world.tickets.take(2);
  world.tickets.add(2, [20]);
  {
    using late = await waiting;
    assert.deepEqual(late.descriptors, [20]);
  }
  assert.deepEqual(world.closed, [20]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(world.closed, [20], "those that were taken stay open");
});

Deno.test("a call without descriptors waits for none", async () => {
  const world = tickets(50);
  using none = await world.tickets.take(0);
  assert.deepEqual(none.descriptors, []);
});

Deno.test("descriptors that nobody asks for are closed", async () => {
  const world = tickets(1);
  world.tickets.add(1, [10, 11]);
  await untilClosed(world.closed, 2);
  await assert.rejects(world.tickets.take(1), (error) => {
    return error instanceof SandboxError && error.code === "DeadlineExceeded";
  });
});

Deno.test("more than a few that wait, and a second one of a number, are closed at once", async () => {
  const world = tickets(20);
  for (let ticket = 1; ticket <= 100; ticket++) world.tickets.add(ticket, [ticket]);
  assert.equal(world.closed.length, 36);
  world.tickets.add(1, [1000]);
  assert.ok(world.closed.includes(1000));
  await untilClosed(world.closed, 101);
});

Deno.test("descriptors can be handed on, and closed one by one", async () => {
  const world = tickets(20);
  world.tickets.add(1, [10, 11, 12]);
  const passed = await world.tickets.take(1);
  const moved = passed.move();
  passed[Symbol.dispose]();
  assert.deepEqual(world.closed, []);
  moved.close(11);
  moved.close(11);
  assert.deepEqual(world.closed, [11]);
  moved[Symbol.dispose]();
  assert.deepEqual(world.closed, [11, 10, 12]);
  await new Promise((resolve) => setTimeout(resolve, 40));
});
