import assert from "node:assert/strict";
import {
  forEachLine,
  formatOutput,
  type LogPiece,
  outputOf,
  PIECE_BYTES_MAX,
} from "./log_format.ts";

const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 67);
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (of: Uint8Array) => new TextDecoder().decode(of);

function pieces(lines: Uint8Array): LogPiece[] {
  const found: LogPiece[] = [];
  forEachLine(lines, (piece) => void found.push(piece));
  return found;
}

Deno.test("output is kept in the format of CRI", () => {
  assert.equal(
    text(formatOutput("stdout", bytes("one\n\ntwo"), AT)),
    "2026-01-02T03:04:05.067Z stdout F one\n" +
      "2026-01-02T03:04:05.067Z stdout F \n" +
      "2026-01-02T03:04:05.067Z stdout P two\n",
  );
});

Deno.test("output comes back as it was, whatever is in it", () => {
  const random = crypto.getRandomValues(new Uint8Array(60_000));
  const feeds = random.map((byte) => byte % 8 === 0 ? 10 : byte);
  const long = bytes("x".repeat(3 * PIECE_BYTES_MAX) + "\n" + "y".repeat(PIECE_BYTES_MAX) + "\n");
  for (const output of [bytes(""), bytes("\n"), bytes("a\r\n"), random, feeds, long]) {
    const lines = formatOutput("stderr", output, AT);
    const found = pieces(lines);
    assert.deepEqual(Buffer(outputOf(found)), Buffer(output));
    assert.ok(
      found.every(({ stream, content }) =>
        stream === "stderr" && content.length <= PIECE_BYTES_MAX
      ),
    );
  }
});

/** Typed arrays of tens of thousands of bytes make deepEqual slow; texts do not. */
function Buffer(of: Uint8Array): string {
  return of.toBase64();
}

Deno.test("damaged lines are left out, others are not", () => {
  const lines = text(formatOutput("stdout", bytes("one\ntwo\n"), AT));
  const [first = "", second = ""] = lines.split("\n");
  const damaged = [first, first.replace("stdout", "stdwhat"), "", "x".repeat(50), second, ""];
  const found = pieces(bytes(damaged.join("\n")));
  assert.deepEqual(found.map(({ content }) => text(content)), ["one", "two"]);
});

Deno.test("reading stops where it is told to", () => {
  let seen = 0;
  forEachLine(formatOutput("stdout", bytes("a\nb\nc\n"), AT), () => ++seen < 2);
  assert.equal(seen, 2);
});
