import assert from "node:assert/strict";
import { styledLines } from "./styled_text.ts";
import { terminalPicture } from "./terminal_picture.ts";

const ESCAPE = String.fromCharCode(27);

Deno.test("a screen is taken apart by style, and a style goes on in the next line", () => {
  const [first, second] = styledLines(
    `a${ESCAPE}[1;32mbc${ESCAPE}[7m d\ne${ESCAPE}[0m f${ESCAPE}[38;5;208mg`,
  );
  const brief = (pieces: typeof first) =>
    pieces?.map(({ text, column, style }) => [
      ...[text, column, style.bold, style.inverse, style.colour],
    ]);
  assert.deepEqual(brief(first), [
    ["a", 0, false, false, undefined],
    ["bc", 1, true, false, "#a6e3a1"],
    [" d", 3, true, true, "#a6e3a1"],
  ]);
  assert.deepEqual(brief(second), [
    ["e", 0, true, true, "#a6e3a1"],
    [" f", 1, false, false, undefined],
    ["g", 3, false, false, "#ff8700"],
  ]);
});

Deno.test("a picture has all text, escaped, in its cells", () => {
  const svg = terminalPicture(`a <b> & "c"\n${ESCAPE}[7mmarked${ESCAPE}[0m\n\n\n`, 20, "title");
  assert.match(svg, />a &lt;b&gt; &amp; &quot;c&quot;<\/text>/);
  assert.match(svg, /<rect x="14" y="62" width="50.4" height="18" fill="#cdd6f4"\/>/);
  assert.match(svg, /viewBox="0 0 196 94"/);
  assert.doesNotMatch(svg, new RegExp(ESCAPE));
});
