import assert from "node:assert/strict";
import { ANSI_COLOURS, NO_COLOURS } from "../show/colours.ts";
import { wrapped, wrappedCommand } from "../show/wrapped.ts";
import type { Finding } from "./finding.ts";
import { reportText } from "./report.ts";

const FINDINGS: readonly Finding[] = [
  { area: "host", id: "a", title: "kernel", state: "ok", found: "6.18.5", blocks: [] },
  {
    area: "vmm",
    id: "b",
    title: "what microVMs boot",
    state: "missing",
    found: "no initrd at /usr/share/quasaur/guest/initrd.cpio, which every microVM is started with",
    mend: "apt-get install --reinstall --yes quasaur qemu-system-x86 virtiofsd erofs-utils",
    blocks: ["vmm"],
  },
];
const VERDICTS = [
  { kind: "wasm", works: true, lacks: [] },
  { kind: "vmm", works: false, lacks: ["what microVMs boot", "a CPU that can", "some memory"] },
] as const;
const REPORT = { findings: FINDINGS, verdicts: VERDICTS };

Deno.test("a report that goes to no terminal has each text on one line", () => {
  const lines = reportText(REPORT, NO_COLOURS, undefined).split("\n");
  assert.equal(lines.length, 9);
  assert.equal(lines[1], "  ok       kernel              6.18.5");
  assert.ok(lines.includes(`${" ".repeat(31)}-> ${FINDINGS[1]?.mend}`));
});

Deno.test("on a terminal no line of a report is longer than that is wide, and nothing is lost", () => {
  for (const columns of [132, 80, 61, 60, 40]) {
    const lines = reportText(REPORT, NO_COLOURS, columns).split("\n");
    const long = lines.filter((line) => line.length > columns);
    // Only what is one word.
    assert.deepEqual(long.filter((line) => line.trim().includes(" ")), [], `${columns}`);
    const words = (text: string) => text.split(/\s+/).filter((word) => word !== "\\");
    assert.deepEqual(
      words(lines.join(" ")),
      words(reportText(REPORT, NO_COLOURS, undefined)),
      `${columns}`,
    );
  }
  const coloured = reportText(REPORT, ANSI_COLOURS, 80);
  // deno-lint-ignore no-control-regex
  const plain = coloured.replaceAll(/\x1b\[\d+m/g, "");
  assert.equal(plain, reportText(REPORT, NO_COLOURS, 80));
});

Deno.test("a command that is broken into lines is the same command to a shell", async () => {
  const command = `printf '%s|' one "two  words" 'three  more  words' four\\ five six --seven=8`;
  const broken = wrappedCommand(command, 20).join("\n   ");
  assert.ok(broken.includes("\\\n"));
  const run = async (text: string) => {
    const { stdout } = await new Deno.Command("sh", { args: ["-c", text] }).output();
    return new TextDecoder().decode(stdout);
  };
  assert.equal(await run(broken), "one|two  words|three  more  words|four five|six|--seven=8|");
  assert.equal(await run(command), await run(broken));
  assert.deepEqual(wrappedCommand("short", 20), ["short"]);
});

Deno.test("text is broken between words, and a long word stays whole", () => {
  assert.deepEqual(wrapped("one two three", 7), ["one two", "three"]);
  assert.deepEqual(wrapped("a /very/long/path b", 6), ["a", "/very/long/path", "b"]);
  assert.deepEqual(wrapped("", 6), [""]);
  assert.deepEqual(wrapped("one two", Infinity), ["one two"]);
});
