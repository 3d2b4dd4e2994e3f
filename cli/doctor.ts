/**
 * `quasaur doctor`: what this host can run, why not, and the command that mends it.
 *
 * @module
 */

import { Command } from "commander";
import { addAddress, addressesOf } from "./client/command.ts";
import { DOCTOR_KINDS, type DoctorKind, type Finding, verdictsOf } from "./doctor/finding.ts";
import type { DoctorHost } from "./doctor/host.ts";
import { reportText } from "./doctor/report.ts";
import type { ThisHostOptions } from "./doctor/this_host.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import type { Colours } from "./show/colours.ts";
import { coloursOf } from "./show/colours.ts";
import { print } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `
Tries what can be tried: a tiny guest, a tiny container. Changes nothing. Each line is ok, a note
(something is worse than it could be, or of no use here), or missing; below is the command that mends
it. Ends with 0 where at least one of the kinds can run, with 1 where none can.

Examples:
  quasaur doctor
  quasaur doctor vmm
  quasaur doctor --json | jq -r '.findings[] | select(.state == "missing").mend'`;

/** The options as commander gathers them. */
interface DoctorOptions {
  readonly containerdConfig: string;
  readonly json?: boolean;
  readonly quarkConfig?: string;
  readonly vmmConfig?: string;
}

/** What the command works with; tests have their own. */
export interface DoctorPorts {
  /** The host that is looked at. */
  host(options: ThisHostOptions): Promise<DoctorHost>;
  /** Writes to standard output. */
  print(text: string): void;
  /** The colours of standard output. */
  colours(): Colours;
  /** How wide the terminal at standard output is; undefined where there is none. */
  columns(): number | undefined;
}

const PORTS: DoctorPorts = {
  // What is looked with is loaded when it is needed: help needs none of it.
  host: async (options) => (await import("./doctor/this_host.ts")).thisHost(options),
  print,
  colours: () => coloursOf(Deno.stdout),
  columns: columnsOfOutput,
};

/** A terminal that does not know its width says 0. */
function columnsOfOutput(): number | undefined {
  if (!Deno.stdout.isTerminal()) return undefined;
  const { columns } = Deno.consoleSize();
  return columns === 0 ? undefined : columns;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function doctorCommand(end: (code: number) => void, ports: DoctorPorts = PORTS): Command {
  const command = new Command("doctor")
    .description("Say what this host can run, why not, and what mends it.")
    .argument("[KIND]", "only what this kind takes: wasm, vmm or gvisor")
    .option(
      "--containerd-config <FILE>",
      "containerd's configuration",
      "/etc/containerd/config.toml",
    )
    .option("--json", "print JSON: findings and verdicts")
    .option("--quark-config <FILE>", "the quark sandboxer's configuration")
    .option("--vmm-config <FILE>", "the vmm sandboxer's configuration");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (kind: string | undefined, options: DoctorOptions) => {
      const kinds = kind === undefined ? DOCTOR_KINDS : [readKind(kind)];
      const { containerdConfig, vmmConfig, quarkConfig } = options;
      const host = await ports.host({
        addresses: addressesOf(command),
        containerdConfig,
        ...(vmmConfig === undefined ? {} : { vmmConfig }),
        ...(quarkConfig === undefined ? {} : { quarkConfig }),
      });
      const findings = await examine(host, kinds);
      const verdicts = verdictsOf(findings, kinds);
      ports.print(
        options.json
          ? `${JSON.stringify({ findings, verdicts }, null, 2)}\n`
          : reportText({ findings, verdicts }, ports.colours(), ports.columns()),
      );
      end(verdicts.some(({ works }) => works) ? 0 : SOME_FAILED);
    });
}

function readKind(text: string): DoctorKind {
  // The sandboxer of gVisor is called by the other kernel that it has.
  const kind = DOCTOR_KINDS.find((kind) => kind === (text === "quark" ? "gvisor" : text));
  if (kind !== undefined) return kind;
  throw new UsageError(
    `Invalid KIND ${JSON.stringify(text)}: expected one of ${DOCTOR_KINDS.join(", ")}`,
  );
}

/**
 * Looks at a host.
 *
 * @param host The host.
 * @param kinds The kinds that count.
 */
export async function examine(
  host: DoctorHost,
  kinds: readonly DoctorKind[],
): Promise<Finding[]> {
  const { hostChecks } = await import("./doctor/checks/host.ts");
  const { launcherCheck } = await import("./doctor/checks/launcher.ts");
  const { wasmChecks } = await import("./doctor/checks/wasm.ts");
  const { vmmChecks } = await import("./doctor/checks/vmm.ts");
  const { gvisorChecks } = await import("./doctor/checks/gvisor.ts");
  const { containerdChecks } = await import("./doctor/checks/containerd.ts");
  const { sandboxerChecks } = await import("./doctor/checks/sandboxers.ts");
  const needsLauncher = kinds.some((kind) => kind !== "wasm");
  const launcher = needsLauncher ? await launcherCheck(host) : undefined;
  const found = await Promise.all([
    hostChecks(host),
    launcher === undefined ? [] : [launcher.finding],
    kinds.includes("wasm") ? wasmChecks(host) : [],
    kinds.includes("vmm") ? vmmChecks(host, launcher?.facts) : [],
    kinds.includes("gvisor") ? gvisorChecks(host, launcher?.facts) : [],
    containerdChecks(host, kinds),
    sandboxerChecks(host, VERSION),
  ]);
  return found.flat();
}
