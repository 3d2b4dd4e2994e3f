import assert from "node:assert/strict";
import { frame } from "./frame.ts";
import { cells, clean, cut, type Frame, plainLine, terminalLine } from "./line.ts";
import { ADDRESS, Feed, NOW_MS, pod } from "./testing/known.ts";
import type { Scene } from "./scene.ts";

/** A picture as text, once it is known to fit its screen. */
function text(scene: Scene): string {
  const picture: Frame = frame(scene);
  for (const line of picture) {
    const width = line.reduce((sum, { text }) => sum + cells(text), 0);
    assert.ok(width <= scene.size.columns, `${width} cells: ${plainLine(line)}`);
  }
  return picture.map(plainLine).join("\n");
}

/** Some pods, one of them with a name and an argument that a terminal would obey. */
function somePods(): Feed {
  const feed = new Feed();
  feed.watch([
    pod("web"),
    pod("evil\x1b[2J", { containers: [{ id: "c", name: "x\x9b31m", args: ["\x1b]0;title\x07"] }] }),
  ]);
  feed.measure("web", 0, 64 * 2 ** 20, NOW_MS - 1000);
  feed.measure("web", 250, 64 * 2 ** 20, NOW_MS);
  feed.event(NOW_MS, { type: "sandbox-started", sandboxId: "id-web" });
  return feed;
}

const SIZES = [
  { columns: 80, rows: 24 },
  { columns: 200, rows: 60 },
  { columns: 40, rows: 10 },
  { columns: 97, rows: 33 },
];

Deno.test("a picture fills its screen and no more, in every view", () => {
  const feed = somePods();
  const web = feed.model.pods().find(({ name }) => name === "web");
  for (const size of SIZES) {
    for (const view of ["list", "events", "help", "pod"] as const) {
      const scene = feed.scene(size, { view, pod: web?.key });
      text(scene);
      assert.equal(frame(scene).length, size.rows, `${view} at ${size.columns}x${size.rows}`);
    }
  }
  assert.match(text(feed.scene({ columns: 30, rows: 5 })), /too small/);
});

Deno.test("80 columns have room for a sandboxer, a pod and the keys", () => {
  const lines = text(somePods().scene({ columns: 80, rows: 24 })).split("\n");
  assert.match(
    lines[0] ?? "",
    /quasaur top +1 sandboxer, 2 pods, 2 containers +every 2s +\d\d:\d\d:\d\d UTC/,
  );
  assert.match(lines[2] ?? "", /^wasm +2 +2 +25\.0 +64\.0Mi +0\.1 +- +- +2\.0ms$/);
  assert.match(lines[5] ?? "", /^\+ web +wasm +ready +25\.0 +64\.0Mi +1 +1 +60s$/);
  for (const key of ["q quit", "? keys", "/ find", "x shell", "t stop", "K kill"]) {
    assert.ok(lines[23]?.includes(key), key);
  }
});

Deno.test("no control character of a pod gets on the screen", () => {
  const feed = somePods();
  const evil = feed.model.pods().find(({ name }) => name !== "web");
  for (const view of ["list", "pod"] as const) {
    const opened = new Set([evil?.key ?? ""]);
    const picture = frame(feed.scene({ columns: 120, rows: 40 }, { view, pod: evil?.key, opened }));
    // deno-lint-ignore no-control-regex -- these are what must not be there
    assert.doesNotMatch(picture.map(plainLine).join(""), /[\x00-\x1f\x7f-\x9f]/);
  }
});

Deno.test("without colours there are none, and what is marked is still seen", () => {
  const picture = frame(somePods().scene({ columns: 80, rows: 24 }));
  const escape = String.fromCharCode(27);
  const coloured = picture.map((line) => terminalLine(line, true)).join("\n");
  assert.ok(coloured.includes(`${escape}[32mready`));
  const plain = picture.map((line) => terminalLine(line, false)).join("\n");
  assert.doesNotMatch(plain.replaceAll(escape, "ESC"), /ESC\[[\d;]*(2|3\d)m/);
  assert.ok(plain.includes(`${escape}[1;7m quasaur top`));
});

Deno.test("a sandboxer that is gone is shown as that", () => {
  const feed = somePods();
  feed.model.lost(ADDRESS, "connection refused", NOW_MS - 5000);
  const shown = text(feed.scene({ columns: 80, rows: 24 }));
  assert.match(shown, /0 of 1 sandboxer up/);
  assert.match(shown, /wasm +gone since 5s: connection refused/);
  assert.match(shown, /web +wasm +unknown +-/);
});

Deno.test("texts are cut by cells, not by characters", () => {
  assert.equal(cut("abcdef", 4), "abc~");
  assert.equal(cells("日本"), 4);
  assert.equal(cells("e\u0301"), 1);
  assert.equal(cut("日本語", 4), "日~");
  assert.equal(clean("a\tb\nc\u202e"), "a b?c?");
});
