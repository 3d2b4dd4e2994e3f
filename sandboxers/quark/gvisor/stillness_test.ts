import assert from "node:assert/strict";
import { Stillness } from "./stillness.ts";

Deno.test("work goes side by side, and none while a pod has to stand still", async () => {
  const stillness = new Stillness();
  const steps: string[] = [];
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const works = gates.map(({ promise }, i) =>
    stillness.work(async () => {
      steps.push(`work ${i}`);
      await promise;
      steps.push(`end ${i}`);
      if (i === 0) throw new Error("a fault");
    })
  );
  const [first] = works;
  const still = stillness.whileStill(() => {
    steps.push("still");
    return Promise.reject(new Error("another"));
  });
  const later = stillness.work(() => Promise.resolve(steps.push("later")));
  for (const { resolve } of gates) resolve();
  await assert.rejects(async () => await first, /a fault/);
  await assert.rejects(still, /another/);
  await later;
  assert.deepEqual(steps, ["work 0", "work 1", "end 0", "end 1", "still", "later"]);
});
