/**
 * A vmm sandboxer that cannot work says why before it serves anybody, and leaves no process behind.
 *
 * @module
 */

import assert from "node:assert/strict";
import { processesNaming } from "./support/left_processes.ts";
import { ManagedProcess } from "./support/managed_process.ts";
import { sandboxerArguments, SandboxerPaths, sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

/** A configuration with what is wrong in it, or a place that is prepared in a wrong way. */
interface BadStart {
  /** What is wrong, for the name of the test. */
  readonly what: string;
  /** What the sandboxer has to say. */
  readonly says: RegExp;
  /** The text of vmm.toml; missing for none. */
  readonly config?: string;
  /** Prepares the place. */
  readonly prepare?: (paths: SandboxerPaths) => Promise<void>;
}

const BAD_STARTS: readonly BadStart[] = [
  {
    what: "whose configuration is not there",
    says: /vmm\.toml/,
  },
  {
    what: "whose configuration is no TOML",
    config: "[hypervisor\n",
    says: /vmm\.toml: line 2, column 1: not TOML/,
  },
  {
    what: "whose configuration has a key that nobody knows",
    config: "[hypervisor]\nvcpu = 2\n",
    says: /vmm\.toml:2: unknown key "hypervisor\.vcpu": did you mean/,
  },
  {
    what: "whose configuration has a value of the wrong type",
    config: '[template]\n\npool = "many"\n',
    says: /vmm\.toml:3: "template\.pool" is the text "many"/,
  },
  {
    what: "whose guests would have less memory than one needs",
    config: "[hypervisor]\nmemory_in_mb = 64\n",
    says: /vmm\.toml:2: "hypervisor\.memory_in_mb" is the number 64: expected .* 96/,
  },
  {
    what: "without QEMU",
    config: '[hypervisor]\npath = "/nowhere/qemu"\n',
    says: /cannot start.*nowhere\/qemu\\" is missing: install .* qemu-system-x86 or set/,
  },
  {
    what: "whose QEMU is another program",
    config: '[hypervisor]\npath = "/bin/true"\n',
    says: /cannot start.*bin\/true\\" for its version: it is no QEMU/,
  },
  {
    what: "that may not write where its images go",
    config: '[storage]\ncache_directory = "/var/lib/somewhere"\n',
    says: /cannot start.*\/var\/lib\/somewhere/,
  },
  {
    what: "whose state directory is a file",
    config: "",
    prepare: (paths) => Deno.writeTextFile(paths.stateDirectory, ""),
    says: /cannot start.*state directory/,
  },
];

for (const { what, says, config, prepare } of BAD_STARTS) {
  Deno.test(`a vmm sandboxer ${what} does not start, and says so`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "qs-" });
    try {
      const paths = new SandboxerPaths("vmm", directory);
      await Deno.mkdir(paths.runDirectory);
      if (config !== undefined) await Deno.writeTextFile(paths.configPath, config);
      await prepare?.(paths);
      const sandboxer = new ManagedProcess({
        name: "sandboxer",
        command: [Deno.execPath(), ...sandboxerArguments(sandboxerProgram("vmm"), paths, "info")],
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
