import assert from "node:assert/strict";
import { Progress } from "./run_progress.ts";

/** A progress, and what it has written. */
function progress(isTerminal: boolean) {
  const written: string[] = [];
  const ports = { isTerminal, print: (text: string) => void written.push(text) };
  return { written, progress: new Progress("patience", ports) };
}

const image = (doneBytes: number) => ({ image: "a.tar", doneBytes, allBytes: 4 * 2 ** 20 });

Deno.test("on a terminal, one line says how far an image is, and is taken back", () => {
  const { written, progress: line } = progress(true);
  line.image(image(2 ** 20));
  line.image(image(2 ** 20 + 1));
  line.image(image(4 * 2 ** 20));
  line.over();
  line.image(image(0));
  line.over();
  assert.deepEqual(written, [
    "unpacking a.tar: 25 % of 4.0 MiB",
    "\r\x1b[Kunpacking a.tar: 100 % of 4.0 MiB, writing",
    "\r\x1b[K",
  ]);
});

Deno.test("nothing is written where nobody watches", () => {
  const { written, progress: line } = progress(false);
  line.image(image(1));
  line[Symbol.dispose]();
  assert.deepEqual(written, []);
});
