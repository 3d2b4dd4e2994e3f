import assert from "node:assert/strict";
import { LANES, planRuns } from "./test_lanes.ts";

Deno.test("planRuns() runs what is named, and only that", () => {
  assert.deepEqual(planRuns(["tests/restart_test.ts"]), {
    together: [],
    alone: ["tests/restart_test.ts"],
  });
});

Deno.test("planRuns() leaves to the last run what no lane has", () => {
  const { together, alone } = planRuns([]);
  assert.deepEqual(together, LANES.map((lane) => ["--retry=1", ...lane]));
  assert.deepEqual(alone, ["--retry=1", `--ignore=${LANES.flat().join(",")}`]);
});

Deno.test("lanes name rooms that are there, each once", async () => {
  const rooms = LANES.flat();
  assert.equal(new Set(rooms).size, rooms.length);
  for (const room of rooms) assert.ok((await Deno.stat(room)).isDirectory, room);
});
