import assert from "node:assert/strict";
import { parseContainerLog } from "./logs.ts";

Deno.test("parseContainerLog() tells the streams apart and joins partial lines", () => {
  const time = "2030-01-02T03:04:05.678901234Z";
  const log = parseContainerLog([
    `${time} stdout P one `,
    `${time} stderr F oops`,
    `${time} stdout F line`,
    `${time} stdout F `,
    `${time} stdout F   indented`,
    "",
  ].join("\n"));
  assert.deepEqual(log, { stdout: ["one line", "", "  indented"], stderr: ["oops"] });
});

Deno.test("parseContainerLog() refuses what is not a CRI log", () => {
  assert.throws(() => parseContainerLog("hello\n"), /"hello" is not a CRI log line/);
});
