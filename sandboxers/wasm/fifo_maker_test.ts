import assert from "node:assert/strict";
import { SystemFifos } from "./fifo_maker.ts";
import { DEFAULT_LIBRARY_PATH } from "./native/library.ts";
import { System } from "./native/system.ts";

Deno.test("FIFOs are made for this user alone, all or none", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-fifos-" });
  try {
    const fifos = new SystemFifos(new System(DEFAULT_LIBRARY_PATH));
    await fifos.make([`${directory}/a`, `${directory}/b`]);
    const { isFifo, mode } = await Deno.stat(`${directory}/b`);
    assert.equal(isFifo, true);
    assert.equal((mode ?? 0) & 0o777, 0o600);
    await assert.rejects(fifos.make([`${directory}/c`, `${directory}/a`]), {
      message: /cannot make the FIFO ".*\/a": EEXIST/,
    });
    await assert.rejects(Deno.stat(`${directory}/c`), Deno.errors.NotFound);
    await assert.rejects(fifos.make([`${directory}/d/e`]), { message: /ENOENT/ });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
