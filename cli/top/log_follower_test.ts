import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { LogEntrySchema } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { LINES_MAX, LogFollower } from "./log_follower.ts";
import { Feed, pod } from "./testing/known.ts";

/** An entry of a log. */
function entry(text: string, more: { stream?: string; partial?: boolean } = {}) {
  return create(LogEntrySchema, {
    stream: "stdout",
    content: new TextEncoder().encode(text),
    ...more,
  });
}

/** The only pod of a model. */
function onlyPod(managed: boolean) {
  const feed = new Feed();
  feed.watch([pod("a", { managed })]);
  const [row] = feed.model.pods();
  assert.ok(row);
  return row;
}

Deno.test("a followed log joins parts of a line, keeps the last ones and tells how it ended", async () => {
  const ended = Promise.withResolvers<void>();
  using logs = new LogFollower(() => {
    if (logs.lines.at(-1)?.atMs === undefined) ended.resolve();
  });
  logs.follow(onlyPod(true), undefined, async function* (id) {
    assert.equal(id, "c-a");
    for (let i = 0; i < LINES_MAX; i++) yield entry(`line ${i}\n`);
    yield entry("one ", { partial: true });
    yield entry("two\n");
    yield entry("bad\n", { stream: "stderr" });
    throw new SandboxError("Unavailable", "the sandboxer is gone");
  });
  await ended.promise;
  assert.equal(logs.lines.length, LINES_MAX);
  const last = logs.lines.slice(-3).map(({ text, isError }) => [text, isError]);
  assert.deepEqual(last, [["one two", false], ["bad", true], ["the sandboxer is gone", false]]);
});

Deno.test("containers of containerd are referred to its tools", () => {
  using logs = new LogFollower(() => {});
  logs.follow(onlyPod(false), undefined, () => {
    throw new Error("must not be read");
  });
  assert.equal(logs.lines.at(-1)?.text, "crictl logs c-a");
});

Deno.test("a log is not read any more once something else is looked at", async () => {
  const aborted = Promise.withResolvers<void>();
  using logs = new LogFollower(() => {});
  logs.follow(onlyPod(true), undefined, async function* (_id, _tail, signal) {
    yield entry("first\n");
    signal.addEventListener("abort", () => aborted.resolve());
    await aborted.promise;
    yield entry("too late\n");
  });
  await new Promise((resolve) => setTimeout(resolve));
  logs.follow(undefined, undefined, () => {
    throw new Error("must not be read");
  });
  await aborted.promise;
  assert.deepEqual(logs.lines, []);
});
