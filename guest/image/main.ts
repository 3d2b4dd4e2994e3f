// deno-lint-ignore-file no-console -- a command talks to a person
/**
 * `deno task guest:image`: builds the kernel and the initrd that microVMs boot.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { buildGuest, type GuestBuild } from "./build.ts";
import { GUEST_DIRECTORY } from "./paths.ts";

const HELP = `Builds the kernel and the initrd that microVMs boot, from Debian packages and the
sources of the agent. Nothing is installed, and no rights are needed beyond those to the directory.

Usage: deno task guest:image [--out DIR] [--console] [--agent FILE]

  --out DIR     where to (default ${GUEST_DIRECTORY})
  --console     with busybox, for the debug console
  --agent FILE  take this program as the agent, and do not build it
  -h, --help    print this`;

/** Reads the command line; undefined where it asks for help. */
function options(args: readonly string[]): GuestBuild | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "out": { type: "string", default: GUEST_DIRECTORY },
      "console": { type: "boolean", default: false },
      "agent": { type: "string" },
      "help": { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  return {
    directory: values.out.replace(/\/+$/, "") || "/",
    console: values.console,
    ...(values.agent === undefined ? {} : { agent: values.agent }),
  };
}

if (import.meta.main) {
  try {
    const chosen = options(Deno.args);
    if (chosen === undefined) console.log(HELP);
    else {
      const begin = performance.now();
      const { files, kernelRelease } = await buildGuest(chosen);
      console.log(`Linux ${kernelRelease}`);
      for (const { name, bytes, sha256 } of files) {
        console.log(`${sha256}  ${chosen.directory}/${name}  ${bytes} bytes`);
      }
      console.log(`Built in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    }
  } catch (error) {
    console.error(SandboxError.from(error).message);
    Deno.exit(1);
  }
}
