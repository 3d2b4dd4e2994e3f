/**
 * A quark sandboxer that cannot work says why before it serves anybody, and leaves no process behind.
 * One without an application kernel's program serves, and refuses that kernel's pods.
 *
 * @module
 */

import assert from "node:assert/strict";
import { processesNaming } from "./support/left_processes.ts";
import { ManagedProcess } from "./support/managed_process.ts";
import {
  sandboxerArguments,
  SandboxerPaths,
  SandboxerProcess,
  sandboxerProgram,
} from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

/** A configuration with what is wrong in it, or a place that is prepared in a wrong way. */
interface BadStart {
  /** What is wrong, for the name of the test. */
  readonly what: string;
  /** What the sandboxer has to say. */
  readonly says: RegExp;
  /** The text of quark.toml; missing for none. */
  readonly config?: string;
  /** Prepares the place. */
  readonly prepare?: (paths: SandboxerPaths) => Promise<void>;
}

const BAD_STARTS: readonly BadStart[] = [
  {
    what: "whose configuration is not there",
    says: /quark\.toml/,
  },
  {
    what: "whose configuration is no TOML",
    config: "[gvisor\n",
    says: /quark\.toml: line 2, column 1: not TOML/,
  },
  {
    what: "whose configuration has several mistakes",
    config: '[gvisor]\nplatfrom = "kvm"\nplatform = "xen"\n\n[kernel]\ndefault = "runc"\n',
    says:
      /:6: "kernel\.default".*:2: unknown key "gvisor\.platfrom": did you mean.*:3: "gvisor\.pl/,
  },
  {
    what: "whose state directory is a file",
    config: "",
    prepare: (paths) => Deno.writeTextFile(paths.stateDirectory, ""),
    says: /cannot start.*state directory/,
  },
];

for (const { what, says, config, prepare } of BAD_STARTS) {
  Deno.test(`a quark sandboxer ${what} does not start, and says so`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "qs-" });
    try {
      const paths = new SandboxerPaths("quark", directory);
      await Deno.mkdir(paths.runDirectory);
      if (config !== undefined) await Deno.writeTextFile(paths.configPath, config);
      await prepare?.(paths);
      const sandboxer = new ManagedProcess({
        name: "sandboxer",
        command: [Deno.execPath(), ...sandboxerArguments(sandboxerProgram("quark"), paths, "info")],
        env: { NO_COLOR: "1" },
        logPath: `${directory}/sandboxer.log`,
      });
      await sandboxer.start();
      try {
        await waitFor("the sandboxer to end", () => !sandboxer.running, { timeoutMs: 30_000 });
      } finally {
        await sandboxer.kill();
      }
      const log = (await sandboxer.log()).replaceAll("\n", " ");
      assert.match(log, says);
      assert.deepEqual(await processesNaming(directory), []);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

/** Programs that are not runsc, and what the sandboxer has to say of each. */
const BAD_PROGRAMS: readonly (readonly [string, RegExp])[] = [
  ["/nowhere/runsc", /\/nowhere\/runsc.*no such file: install the Debian package runsc/],
  ["/bin/true", /\/bin\/true.*(no runsc|not runsc|its version)/],
];

for (const [path, says] of BAD_PROGRAMS) {
  Deno.test(`a quark sandboxer with ${path} for runsc starts, and says what is wrong`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "qs-" });
    try {
      const own = sandboxerProgram("quark");
      const program = {
        ...own,
        config: `[gvisor]\npath = "${path}"\n`,
        replacements: new Map([["/usr/bin/runsc", path]]),
      };
      const paths = new SandboxerPaths("quark", directory);
      const sandboxer = new SandboxerProcess(program, paths, "info");
      await sandboxer.start();
      try {
        await waitFor("the sandboxer to complain", async () => {
          return says.test((await sandboxer.process.log()).replaceAll("\n", " "));
        });
      } finally {
        await sandboxer.process.stop();
      }
      // The relay of task calls ends once nobody is there to relay to.
      await waitFor("its processes to be gone", async () => {
        return (await processesNaming(directory)).length === 0;
      });
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}
