import assert from "node:assert/strict";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { runPackageStep } from "./apt.ts";
import type { Simulation } from "./apt_policy.ts";
import type { Machine } from "./machine.ts";
import { Progress } from "./progress.ts";

/** A machine on which apt would do what is given. */
function machine(simulation: Partial<Simulation>): Machine {
  return {
    osName: "Test",
    isRoot: true,
    found: new Map(),
    ownFiles: new Map(),
    apt: {
      releases: [],
      sources: [],
      policies: new Map(),
      simulate: () =>
        Promise.resolve({ solvable: true, installs: [], removes: [], output: "", ...simulation }),
    },
  };
}

/** A progress that must not be asked to run anything. */
function idleProgress(): Progress {
  return Object.assign(new Progress("/nonexistent/log", () => {}), {
    runLogged: () => Promise.reject(new Error("a command was run")),
  });
}

const INSTALL = { kind: "install", packages: ["busybox-static"], why: "busybox" } as const;

Deno.test("an installation that would remove packages is refused before anything is done", async () => {
  const step = runPackageStep(INSTALL, machine({ removes: ["busybox"] }), idleProgress());
  await assert.rejects(
    step,
    (error) =>
      error instanceof SandboxError && error.code === "FailedPrecondition" &&
      /^Cannot install busybox-static: that would remove busybox: /.test(error.message),
  );
});

Deno.test("an installation without a solution is refused with apt's words", async () => {
  const simulation = { solvable: false, output: "E: Unable to correct problems\n" };
  const step = runPackageStep(INSTALL, machine(simulation), idleProgress());
  await assert.rejects(
    step,
    /apt finds no solution for "apt-get install[^"]*busybox-static":\nE: Un/,
  );
});

Deno.test("a file of a plan is written as it is", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const step = { kind: "write", path: `${directory}/x`, text: "a\n", why: "" } as const;
    await runPackageStep(step, machine({}), idleProgress());
    assert.equal(await Deno.readTextFile(`${directory}/x`), "a\n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a failing apt is told with the end of its output and the place of the log", async () => {
  const progress = Object.assign(new Progress("/somewhere/log", () => {}), {
    runLogged: () => Promise.resolve({ status: 100, output: "lots\nE: No space left on device\n" }),
  });
  const step = runPackageStep(INSTALL, machine({}), progress);
  await assert.rejects(step, /see \/somewhere\/log, which ends with:\nlots\nE: No space left/);
});
