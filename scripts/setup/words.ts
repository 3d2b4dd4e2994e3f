/**
 * Puts the steps of a plan into words: for reading, and as shell commands for those who may not
 * install packages themselves.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { installCommand } from "./machine.ts";
import type { PackageStep } from "./plan.ts";

/**
 * A step in words.
 *
 * @param step The step.
 */
export function describe(step: PackageStep): string {
  switch (step.kind) {
    case "write":
      return `write ${step.path}: ${step.why}`;
    case "update":
      return `run apt-get update: ${step.why}`;
    case "install": {
      const suite = step.suite === undefined ? "" : ` from ${step.suite}, with what they need`;
      return `install ${step.packages.join(", ")}${suite}: ${step.why}`;
    }
  }
}

/**
 * The error for a user who may not carry out the steps: the same as shell commands.
 *
 * @param steps At least one.
 */
export function needsRoot(steps: readonly PackageStep[]): SandboxError {
  return new SandboxError(
    "PermissionDenied",
    "Cannot install packages: only root can: run set-up as root, or run these and then set-up " +
      `again:\n${steps.map(shellCommand).join("\n")}`,
  );
}

/** A step as a shell command. */
function shellCommand(step: PackageStep): string {
  switch (step.kind) {
    case "write":
      return `sudo tee ${step.path} >/dev/null <<'END'\n${step.text}END`;
    case "update":
      return "sudo apt-get update";
    case "install":
      return `sudo ${installCommand(step.packages, step.suite).join(" ")}`;
  }
}
