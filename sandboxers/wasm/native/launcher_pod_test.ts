/**
 * What a process can and cannot do that the launcher has turned into that of a pod. A program that
 * tries takes the place of the runtime, built into a launcher of its own.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { errnoName } from "./errno.ts";
import { compilerFlags } from "./pod_program.ts";

const SOURCES = fileURLToPath(new URL(".", import.meta.url));

/** Runs a program and expects it to work. */
async function run(command: string, args: readonly string[]): Promise<string> {
  const output = await new Deno.Command(command, { args: [...args] }).output();
  const text = new TextDecoder();
  assert.ok(output.success, `${command} ${args.join(" ")}: ${text.decode(output.stderr)}`);
  return text.decode(output.stdout);
}

/** Builds the probe and a launcher for it, and runs them. */
async function probe(
  directory: string,
  options: readonly string[] = [],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const program = `${directory}/probe`;
  const launcher = `${directory}/launcher`;
  await Deno.mkdir(`${directory}/pod`, { recursive: true });
  await run("cc", ["-o", program, `${SOURCES}launcher_pod_probe.c`]);
  const names = [
    "launcher",
    "launcher_compile",
    "launcher_confine",
    "launcher_pod",
    "../../host/native/no_rights",
    "../../host/native/relay",
    "../../host/native/stand_in",
  ];
  await run("cc", [
    ...["-o", launcher],
    ...names.map((name) => `${SOURCES}${name}.c`),
    ...compilerFlags({ command: [program, "one"], environment: ["ONLY=this"], files: [program] }),
  ]);
  const text = await run(launcher, [
    ...["pod", `--directory=${directory}/pod`, `--tasks=${directory}/tasks`, ...options, "the-pod"],
  ]);
  const found = new Map<string, string[]>();
  for (const line of text.trim().split("\n")) {
    const [name = "", ...value] = line.split(" ");
    found.set(name, [...found.get(name) ?? [], value.join(" ")]);
  }
  return found;
}

Deno.test("a pod's process can reach no file, process or mount but its own", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-launcher-" });
  try {
    const found = await probe(directory);
    const errno = (name: string) => {
      const number = Number(found.get(name)?.[0]);
      return number === 0 ? "allowed" : errnoName(number);
    };
    const expected: readonly (readonly [string, string])[] = [
      ...["read-passwd", "read-above", "read-core-pattern"].map((it) => [it, "ENOENT"] as const),
      ...["read-init", "read-init-root"].map((it) => [it, "ENOENT"] as const),
      ...["write-root", "write-library"].map((it) => [it, "EROFS"] as const),
      ...["make-device", "kill-init", "kill-parent", "kill-group"].map((it) =>
        [it, "EPERM"] as const
      ),
      ...["tgkill-init", "pidfd-init", "trace-init", "trace-me"].map((it) =>
        [it, "EPERM"] as const
      ),
      ...["read-memory", "mount", "unmount", "mount-by-parts"].map((it) => [it, "EPERM"] as const),
      ...["copy-mounts", "new-mounts", "new-network", "handle"].map((it) => [it, "EPERM"] as const),
      ...["bpf", "perf", "io-uring", "userfaultfd", "keys"].map((it) => [it, "EPERM"] as const),
      ...["load-module", "host-name"].map((it) => [it, "EPERM"] as const),
      // What confining the threads of guests takes.
      ...["write-null", "read-self", "kill-self"].map((it) => [it, "allowed"] as const),
      ...["own-directory", "change-root"].map((it) => [it, "allowed"] as const),
    ];
    for (const [name, error] of expected) assert.equal(errno(name), error, name);
    if (Deno.build.arch === "x86_64") assert.equal(errno("other-numbers"), "EPERM");
    assert.deepEqual(found.get("name"), ["quasaur-pod the-pod"]);
    assert.deepEqual(found.get("arguments"), ["1"]);
    assert.deepEqual(found.get("environment"), ["ONLY=this"]);
    assert.deepEqual(found.get("descriptor"), ["0", "1", "2", "3"]);
    const identity = await Deno.readTextFile(`${directory}/pod/process`);
    assert.equal(identity.split(" ")[0], found.get("pid")?.[0]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the launcher tells what is not there, and starts nothing then", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-launcher-" });
  try {
    for (
      const [option, message] of [
        ["--network=/nowhere", /cannot enter the network namespace "\/nowhere"/],
        ["--cgroup=/nowhere", /cannot enter the cgroup "\/nowhere\/cgroup\.procs"/],
        ["--readable=/nowhere", /cannot show "\/nowhere"/],
        ["--writable=/nowhere", /cannot show "\/nowhere"/],
        ["--writable=relative", /unknown argument/],
        ["--program=/bin/sh", /unknown argument/],
      ] as const
    ) {
      await assert.rejects(probe(directory, [option]), message);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
