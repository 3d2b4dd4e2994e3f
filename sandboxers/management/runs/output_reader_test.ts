import assert from "node:assert/strict";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { OutputReader } from "./output_reader.ts";

Deno.test("the output of a process that has ended ends, though others go on writing", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-output-" });
  const path = `${directory}/fifo`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const write = () => writeSync(fd, new Uint8Array(16 * 1024));
  let bytes = 0;
  try {
    using reader = new OutputReader({
      path,
      what: "output",
      keeper: undefined,
      room: () => Promise.resolve(),
      take: (taken) => {
        bytes += taken.length;
        assert.ok(bytes < 8 * 2 ** 20, "it reads on and on");
        write();
      },
    });
    write();
    reader.finish();
    await reader.done;
    assert.ok(bytes >= 16 * 1024);
  } finally {
    closeSync(fd);
    await Deno.remove(directory, { recursive: true });
  }
});
