import assert from "node:assert/strict";
import type { Key } from "./ink.d.ts";
import { keyNames } from "./ink_screen.ts";

const NONE: Key = {
  upArrow: false,
  downArrow: false,
  leftArrow: false,
  rightArrow: false,
  pageUp: false,
  pageDown: false,
  home: false,
  end: false,
  return: false,
  escape: false,
  ctrl: false,
  meta: false,
  tab: false,
  backspace: false,
  delete: false,
};

Deno.test("keys have names, and text that comes at once is one key for each character", () => {
  assert.deepEqual(keyNames("", { ...NONE, upArrow: true }), ["up"]);
  assert.deepEqual(keyNames("", { ...NONE, delete: true }), ["backspace"]);
  assert.deepEqual(keyNames("c", { ...NONE, ctrl: true }), ["ctrl-c"]);
  assert.deepEqual(keyNames("K", { ...NONE, meta: true }), ["escape", "K"]);
  assert.deepEqual(keyNames("a b\r", NONE), ["a", "space", "b", "enter"]);
  assert.deepEqual(keyNames("[99~", NONE), []);
});
