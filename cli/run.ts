/**
 * `quasaur run`: runs something in a sandbox, of this process or of a sandboxer, on this command's own
 * standard streams, and ends as it ended.
 *
 * @module
 */

import { Command } from "commander";
import { checkKind } from "../sandboxers/embedded/kind.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { runGvisorCommand } from "./run_gvisor.ts";
import { runQuarkCommand } from "./run_quark.ts";
import { runVmmCommand } from "./run_vmm.ts";
import { runWasmCommand } from "./run_wasm.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
It runs through a sandboxer of the kind where one runs (or --address names one), else in a sandbox of
this process. The options are the same for every kind; see \`quasaur run KIND --help\`.

Examples:
  quasaur run wasm hello.wasm
  quasaur run gvisor -it ./image.tar -- /bin/sh
  quasaur run vmm -d --name web -p 8080:80 --net user docker.io/library/nginx:1
  quasaur run vmm --rootfs ./alpine -- uname -a`;

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function runCommand(end: (code: number) => void): Command {
  return new Command("run")
    .description("Run something in a sandbox.")
    .usage("KIND [options] WHAT [args...]")
    .argument("<kind>")
    .argument("[rest...]")
    .helpCommand(false)
    .allowUnknownOption()
    .enablePositionalOptions()
    .addHelpText("after", EXAMPLES)
    .action(refuseKind)
    .addCommand(runWasmCommand(end))
    .addCommand(runVmmCommand(end))
    .addCommand(runGvisorCommand(end))
    .addCommand(runQuarkCommand(end));
}

/** Reached for any kind that has no command of its own. */
function refuseKind(kind: string): void {
  if (kind.startsWith("-")) {
    throw new UsageError(
      `expected the kind before option '${kind}': quasaur run KIND [options] WHAT, with wasm, vmm, ` +
        "gvisor or quark as KIND",
    );
  }
  try {
    checkKind(kind);
  } catch (error) {
    throw new UsageError(SandboxError.from(error).message, { cause: error });
  }
}
