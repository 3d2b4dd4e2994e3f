/**
 * A sandboxer that is started with a mask that lets everybody write (umask 000), for a test: it prints
 * the mode that each file had when it was about to be closed to others, and ends.
 *
 * @module
 */

import { MemoryDriver } from "./controller/fixture.ts";
import { noMounts } from "./lifecycle/mounter.ts";
import { Sandboxer } from "./lifecycle/sandboxer.ts";
import { MemoryStore } from "./lifecycle/store.ts";
import { createLog } from "./log.ts";
import { start } from "./serve.ts";
import { openTelemetry } from "./telemetry/open.ts";

if (import.meta.main) {
  const [root = ""] = Deno.args;
  const metrics = { kind: "unix", path: `${root}/metrics.sock` } as const;
  Deno.umask(0);
  const log = createLog({ level: "error" });
  const modes: Record<string, string> = {};
  const { chmod } = Deno;
  Deno.chmod = async (path, mode) => {
    modes[String(path).slice(root.length + 1)] = (((await Deno.lstat(path)).mode ?? 0) & 0o777)
      .toString(8);
    await chmod(path, mode);
  };
  const serving = await start({
    sandboxer: new Sandboxer({
      driver: new MemoryDriver(),
      store: new MemoryStore(),
      mounter: noMounts,
      log,
    }),
    listen: `${root}/sandboxes.sock`,
    taskListen: `${root}/tasks.sock`,
    dir: `${root}/state`,
    containerdEvents: undefined,
    unstartedSecondsMax: 0,
    telemetry: await openTelemetry({ kind: "memory", metrics, log }),
    metrics,
    log,
  });
  await Deno.writeTextFile(`${root}/file`, "");
  modes["file"] = (((await Deno.lstat(`${root}/file`)).mode ?? 0) & 0o777).toString(8);
  await serving.stop();
  await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(modes)));
  Deno.exit(0);
}
