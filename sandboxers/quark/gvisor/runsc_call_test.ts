import assert from "node:assert/strict";
import { Launcher } from "../../host/launcher.ts";
import { commandLine, type RunscCall } from "./runsc_call.ts";
import { globalFlags, type RunscOptions } from "./runsc_options.ts";

const OPTIONS: RunscOptions = {
  program: "/usr/bin/runsc",
  launcher: new Launcher("/l"),
  root: "/r",
  logs: "/logs",
  platform: "systrap",
  network: "sandbox",
};

Deno.test("runsc writes through to root file systems and leaves raw sockets and seccomp off, unless told", () => {
  assert.deepEqual(globalFlags(OPTIONS, "/logs/x.log"), [
    "--root=/r",
    "--log=/logs/x.log",
    "--log-format=json",
    "--platform=systrap",
    "--network=sandbox",
    "--overlay2=none",
    "--directfs=true",
    "--file-access=exclusive",
  ]);
});

Deno.test("every option has its flag, and further flags come last", () => {
  const flags = globalFlags({
    ...OPTIONS,
    platform: "ptrace",
    network: "host",
    overlay: "memory",
    directfs: false,
    fileAccess: "shared",
    ignoresCgroups: true,
    rawSockets: true,
    seccomp: true,
    panicLog: "/panic",
    debugLogs: "/debug",
    extraFlags: ["--strace"],
  }, "/logs/x.log");
  assert.deepEqual(flags.slice(3), [
    "--platform=ptrace",
    "--network=host",
    "--overlay2=root:memory",
    "--directfs=false",
    "--file-access=shared",
    "--ignore-cgroups",
    "--net-raw",
    "--oci-seccomp",
    "--panic-log=/panic",
    "--debug",
    "--debug-log=/debug/",
    "--strace",
  ]);
});

/** A command line without runsc's flags. */
function words(call: Partial<RunscCall>, timeoutMs = 1000): string {
  const whole = { action: "cannot x", args: ["start", "a"], ...call };
  return commandLine(OPTIONS, whole, "/log", timeoutMs).filter((word) =>
    !word.startsWith("--") ||
    word === "--"
  ).join(" ");
}

Deno.test("a call that answers is runsc alone", () => {
  assert.equal(words({ args: ["state", "a"] }), "/usr/bin/runsc state a");
});

Deno.test("what starts processes is bounded outermost, and hidden things are hidden from runsc only", () => {
  const call = { stdio: { stdin: "/in", stderr: "/err" }, isMasked: true, startsProcesses: true };
  assert.equal(
    words(call),
    "/l bounded 1000 -- /l stdio /in - /err -- /l netns-mask -- /usr/bin/runsc start a",
  );
  assert.equal(words({ startsProcesses: true }, Infinity), "/usr/bin/runsc start a");
});
