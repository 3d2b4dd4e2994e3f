/**
 * Quark's pods through containerd: the sandboxer as it is shipped, with its permission set, and the
 * double of Quark in Quark's place.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runcTarget } from "./blackbox/runc_target.ts";
import { Bed } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import type { Pod } from "./support/cri.ts";
import { leaks, type Snapshot, snapshot } from "./support/leaks.ts";
import { processesNaming } from "./support/left_processes.ts";
import { QuarkDouble } from "./support/quark_double/fixture.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

const { image, path } = runcTarget;

/** A bed whose Quark is the double. */
async function startBed(double: QuarkDouble): Promise<Bed> {
  const program = {
    ...sandboxerProgram("quark"),
    config: `[quark]\npath = "${double.program}"\nconfig_path = "${double.configPath}"\n`,
    replacements: new Map([
      ["/usr/local/bin/quark", double.program],
      ["/etc/quark/config.json", double.configPath],
    ]),
  };
  return await Bed.start({ kinds: [program] });
}

/** What there is of pods. */
async function look(bed: Bed): Promise<Snapshot> {
  const { directory, state } = bed.containerd;
  const { runDirectory } = bed.sandboxer("quark").paths;
  const things = await snapshot({
    mountsBelow: [directory],
    filesBelow: [`${state}/io.containerd.runtime.v2.task`, runDirectory],
  });
  const quarks = (await processesNaming(directory)).filter(({ command }) => / boot /.test(command));
  return new Map([...things, ["Quark", new Map([["process", quarks.length]])]]);
}

/** The process id of a pod's Quark, as containerd tells it. */
async function quarkOf(pod: Pod): Promise<number> {
  const { pid } = JSON.parse((await pod.info())["info"] ?? "{}");
  assert.match(await Deno.readTextFile(`/proc/${pid}/cmdline`), /quark_double/);
  return pid;
}

Deno.test("containerd runs pods in Quark, finds them after a restart, and hears why it cannot", async () => {
  await using double = await QuarkDouble.install();
  await using bed = await startBed(double);
  await runcTarget.importImages(bed);
  using cri = bed.cri();
  const sandboxer = bed.sandboxer("quark");
  await withLogs(bed, async () => {
    // The first pod brings directories that stay.
    await using first = await cri.runPod({ handler: "quasaur-quark" });
    await first.runContainer({ image, command: [path("hello")] });
    await first.remove();
    const before = await look(bed);
    {
      await using pod = await cri.runPod({ handler: "quasaur-quark" });
      const finished = await pod.runContainer({ image, command: [path("hello")] });
      assert.deepEqual(finished.stdout, ["hello from runc"]);
      const sleeping = await pod.startContainer({
        name: "sleep",
        image,
        command: [path("sleep")],
      });
      await sleeping.printed("sleeping");
      const { exitCode, stdout } = await sleeping.exec(["/bin/sh", "-c", "echo in; exit 3"]);
      assert.deepEqual([exitCode, stdout], [3, "in\n"]);
      using cat = await sleeping.execStreaming([path("cat")]);
      cat.send("before\n");
      await cat.printed("before\n");
      const pid = await quarkOf(pod);

      await sandboxer.process.kill();
      await sandboxer.start();
      assert.equal(await waitFor("the sandboxer to answer", () => quarkOf(pod)), pid);
      assert.equal(await sleeping.state(), "RUNNING");
      cat.send("after\n");
      await cat.printed("before\nafter\n");
      await sleeping.stop(0);
      assert.equal((await sleeping.exited()).exitCode, 137);
    }
    await double.configure({ Sandboxed: false, ShimMode: false });
    await assert.rejects(
      cri.runPod({ handler: "quasaur-quark" }),
      /"Sandboxed" is false in Quark's configuration .*: set it to true/,
    );
    await waitFor("everything to be gone", async () => {
      const left = leaks(before, await look(bed))
        .filter((text) => !text.startsWith("network namespace"));
      if (left.length > 0) throw new Error(left.join("\n"));
      return true;
    });
  });
});
