import assert from "node:assert/strict";
import { toldWholly } from "./whole_errors.ts";

Deno.test("toldWholly() names what failed and what its clean-up met, in that order", async () => {
  const failing = (message: string) => ({
    [Symbol.asyncDispose]: () => Promise.reject(new Error(message)),
  });
  const action = async () => {
    await using _last = failing("cannot remove the bed");
    await using _first = failing("cannot stop the pod");
    return await Promise.reject(new Error("the container has ended"));
  };
  await assert.rejects(toldWholly(action), (error: unknown) => {
    assert.ok(error instanceof AggregateError);
    assert.deepEqual(error.errors.map(({ message }) => message), [
      "the container has ended",
      "cannot stop the pod",
      "cannot remove the bed",
    ]);
    assert.match(error.message, /^the container has ended\nand then, .*: cannot stop the pod\n/);
    return true;
  });
});

Deno.test("toldWholly() passes one error on as it is", async () => {
  const error = new TypeError("not a number");
  await assert.rejects(toldWholly(() => Promise.reject(error)), error);
  assert.equal(await toldWholly(() => Promise.resolve(1)), 1);
});
