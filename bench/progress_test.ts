import assert from "node:assert/strict";
import { Progress } from "./progress.ts";

/** A progress with a clock that the test sets, and what it wrote. */
function fixture(terminal: boolean) {
  const clock = { now: 0 };
  let text = "";
  const output = {
    isTerminal: () => terminal,
    writeSync(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  };
  return { progress: new Progress(output, () => clock.now), clock, text: () => text };
}

Deno.test("Progress renews one line on a terminal and wipes it out", () => {
  const { progress, clock, text } = fixture(true);
  progress.stage("cri-start");
  clock.now = 1_000;
  progress.step(3, 10, "runc");
  progress[Symbol.dispose]();
  assert.equal(text(), "\r\x1b[Kcri-start\r\x1b[Kcri-start  3/10  runc\r\x1b[K");
});

Deno.test("Progress writes whole lines elsewhere, and not often", () => {
  const { progress, clock, text } = fixture(false);
  progress.stage("rpc");
  for (clock.now = 0; clock.now <= 6_000; clock.now += 10) progress.step(clock.now, 6_000, "runc");
  progress.clear();
  assert.equal(text(), "rpc\nrpc  5000/6000  runc\n");
});

Deno.test("Progress never writes a line that would wrap", () => {
  const { progress, text } = fixture(true);
  progress.stage("x".repeat(200));
  assert.equal(text().length, 4 + 79);
});
