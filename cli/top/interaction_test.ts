import assert from "node:assert/strict";
import { firstScreen, press, type Screen, settle } from "./interaction.ts";
import { listRows } from "./list_rows.ts";
import { ALL, select } from "./selection.ts";
import { Feed, NOW_MS, pod } from "./testing/known.ts";

/** Three pods, "b" the busiest, "c" the one with the most memory, "a" the youngest. */
function threePods(): Feed {
  const feed = new Feed();
  const seconds = BigInt(NOW_MS / 1000);
  feed.watch([
    pod("a", { createdAt: { seconds }, labels: { app: "Shop" } }),
    pod("b", { namespace: "default" }),
    pod("c", { kind: "wasm" }),
  ]);
  for (const [name, cpuMs, memory] of [["a", 1, 10], ["b", 900, 20], ["c", 5, 30]] as const) {
    feed.measure(name, 0, memory, NOW_MS);
    feed.measure(name, cpuMs, memory, NOW_MS + 1000);
  }
  return feed;
}

/** Presses keys one after the other, settling in between as the screen does. */
function pressed(feed: Feed, keys: readonly string[], pageRows = 15): Screen {
  const choices = { pods: feed.model.pods(), pageRows };
  let screen = settle(firstScreen("cpu"), choices);
  for (const key of keys) screen = settle(press(screen, key, choices).screen, choices);
  return screen;
}

/** What the last of some keys asks for. */
function effectOf(feed: Feed, keys: readonly string[]) {
  const screen = pressed(feed, keys.slice(0, -1));
  return press(screen, keys.at(-1) ?? "", { pods: feed.model.pods(), pageRows: 15 }).effect;
}

/** The names of the rows. */
function rows(feed: Feed, screen: Screen): string[] {
  return listRows(feed.model.pods(), screen).map(({ pod, container }) => container?.id ?? pod.name);
}

Deno.test("pods are sorted by what is asked for", () => {
  const feed = threePods();
  assert.deepEqual(rows(feed, pressed(feed, [])), ["b", "c", "a"]);
  assert.deepEqual(rows(feed, pressed(feed, ["s"])), ["c", "b", "a"]);
  assert.deepEqual(rows(feed, pressed(feed, ["s", "s"])), ["a", "b", "c"]);
  assert.deepEqual(rows(feed, pressed(feed, ["s", "s", "s", "r"])), ["c", "b", "a"]);
});

Deno.test("pods are filtered by what is typed, by kind and by namespace", () => {
  const feed = threePods();
  assert.deepEqual(rows(feed, pressed(feed, ["/", "s", "h", "o", "p", "enter"])), ["a"]);
  assert.deepEqual(rows(feed, pressed(feed, ["/", "x", "x", "backspace", "backspace"])).length, 3);
  assert.deepEqual(rows(feed, pressed(feed, ["/", "z", "z", "escape"])).length, 3);
  assert.deepEqual(rows(feed, pressed(feed, ["n"])), ["b"]);
  assert.deepEqual(rows(feed, pressed(feed, ["n", "n"])), ["c", "a"]);
  assert.deepEqual(rows(feed, pressed(feed, ["n", "n", "n"])).length, 3);
  assert.deepEqual(select(feed.model.pods(), { ...ALL, kind: "vmm" }), []);
});

Deno.test("keys of a filter are text and do nothing else", () => {
  const feed = threePods();
  assert.equal(effectOf(feed, ["/", "q"]), undefined);
  assert.equal(pressed(feed, ["/", "K"]).confirm, undefined);
});

Deno.test("the mark stays on its pod while pods change places, and near by when it is gone", () => {
  const feed = threePods();
  const screen = pressed(feed, ["down"]);
  const marked = (feed: Feed, from: Screen) => {
    const pods = feed.model.pods();
    const { marked } = settle(from, { pods, pageRows: 15 });
    return pods.find(({ key }) => key === marked)?.name;
  };
  assert.equal(marked(feed, screen), "c");
  feed.measure("c", 2000, 30, NOW_MS + 2000);
  assert.equal(marked(feed, screen), "c");
  feed.watch([], ["id-c"]);
  assert.equal(marked(feed, screen), "a");
  feed.watch([], ["id-a", "id-b"]);
  assert.equal(marked(feed, screen), undefined);
});

Deno.test("a pod's containers are shown beneath it and can be marked", () => {
  const feed = threePods();
  assert.deepEqual(rows(feed, pressed(feed, ["space"])), ["b", "c-b", "c", "a"]);
  const inside = pressed(feed, ["right", "down"]);
  assert.match(inside.marked ?? "", /c-b$/);
  const closed = pressed(feed, ["right", "down", "left"]);
  assert.deepEqual(rows(feed, closed), ["b", "c", "a"]);
  assert.match(closed.marked ?? "", /id-b$/);
});

Deno.test("a long list is scrolled so that the mark is seen", () => {
  const feed = new Feed();
  feed.watch(Array.from({ length: 50 }, (_, i) => pod(`p${String(i).padStart(2, "0")}`)));
  assert.equal(pressed(feed, ["end"], 10).firstRow, 40);
  assert.equal(pressed(feed, ["end", "home"], 10).firstRow, 0);
  const paged = pressed(feed, ["page-down", "page-down"], 10);
  assert.equal(paged.markedIndex, 20);
  assert.ok(paged.firstRow <= 20 && paged.firstRow + 10 > 20);
});

Deno.test("what ends a pod is done only once it is confirmed", () => {
  const feed = threePods();
  assert.equal(effectOf(feed, ["K"]), undefined);
  const killed = effectOf(feed, ["K", "y"]);
  assert.ok(killed?.do === "act");
  assert.equal(killed.action.verb, "kill");
  assert.equal(killed.action.pod.name, "b");
  assert.equal(killed.action.container, undefined);
  assert.equal(effectOf(feed, ["K", "n"]), undefined);
  assert.equal(pressed(feed, ["K", "x"]).message?.text, 'did not kill pod "b"');
  const stopped = effectOf(feed, ["space", "down", "t", "y"]);
  assert.ok(stopped?.do === "act");
  assert.equal(stopped.action.verb, "stop");
  assert.equal(stopped.action.container, undefined);
  const one = effectOf(feed, ["space", "down", "K", "y"]);
  assert.ok(one?.do === "act");
  assert.equal(one.action.container?.id, "c-b");
});

Deno.test("a shell is started in a running container, and where there is none it says so", () => {
  const feed = threePods();
  const shell = effectOf(feed, ["x"]);
  assert.ok(shell?.do === "act");
  assert.equal(shell.action.container?.id, "c-b");
  feed.watch([pod("b", { containers: [] })]);
  assert.equal(effectOf(feed, ["x"]), undefined);
  assert.equal(pressed(feed, ["x"]).message?.isError, true);
});

Deno.test("enter shows one pod, its tabs are a key away, escape leads back", () => {
  const feed = threePods();
  const shown = pressed(feed, ["enter"]);
  assert.deepEqual([shown.view, shown.tab], ["pod", "about"]);
  assert.equal(pressed(feed, ["enter", "tab"]).tab, "logs");
  assert.equal(pressed(feed, ["e"]).tab, "events");
  assert.equal(pressed(feed, ["enter", "c"]).container?.endsWith("c-b"), true);
  const back = pressed(feed, ["down", "enter", "l", "escape"]);
  assert.equal(back.view, "list");
  assert.match(back.marked ?? "", /id-c$/);
});

Deno.test("q and Ctrl-C leave from everywhere", () => {
  const feed = threePods();
  for (const before of [[], ["enter"], ["?"], ["E"]]) {
    assert.deepEqual(effectOf(feed, [...before, "q"]), { do: "quit" });
  }
  for (const before of [[], ["/"], ["K"], ["enter"]]) {
    assert.deepEqual(effectOf(feed, [...before, "ctrl-c"]), { do: "quit" });
  }
});
