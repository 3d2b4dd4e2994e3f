import assert from "node:assert/strict";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { RunCommand } from "./support/cli_command.ts";
import { waitFor } from "./support/wait.ts";
import { processesNaming } from "./support/left_processes.ts";

const command = new RunCommand("gvisor");

/** Where programs of root have their sandboxes. */
const PLACES = "/run/quasaur/cli-gvisor";

Deno.test("run gvisor runs a command over gVisor's kernel, with its streams and its exit code", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const script = "id -u; id -g; pwd; hostname; echo $A; cat; cat /proc/version >&2; exit 7";
  const { code, stdout, stderr } = await command.run([
    ...["--rootfs", rootfs.path, "-e", "A=b c", "-w", "/bin", "-u", "5:6", "--hostname", "box"],
    ...["--", "sh", "-c", script],
  ], new TextEncoder().encode("input\n"));
  assert.equal(stdout, "5\n6\n/bin\nbox\nb c\ninput\n", stderr);
  assert.match(stderr, /^Linux version /m);
  const host = await Deno.readTextFile("/proc/version");
  assert.notEqual(stderr.trim(), host.trim());
  assert.equal(code, 7);
});

Deno.test("run gvisor passes megabytes both ways unchanged", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const bytes = new Uint8Array(3_000_000).map((_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff);
  const child = command.start(["--rootfs", rootfs.path, "cat"]);
  const fed = new Blob([bytes]).stream().pipeTo(child.stdin);
  const { code, stdout, stderr } = await child.output();
  await fed;
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.ok(stdout.length === bytes.length && stdout.every((byte, i) => byte === bytes[i]));
});

Deno.test("run gvisor shows files of the host, and lets those be written to that may be", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const volume = `${rootfs.directory}/volume`;
  await Deno.mkdir(volume);
  await Deno.writeTextFile(`${volume}/in`, "from the host\n");
  const { code, stdout, stderr } = await command.run([
    ...["--rootfs", rootfs.path, "--read-only", "-v", `${volume}:/v`, "-v", `${volume}/in:/in:ro`],
    ...["--", "sh", "-c", "cat /v/in /in; echo back > /v/out; (echo no > /in) 2>&1; echo no > /x"],
  ]);
  assert.match(stdout, /^from the host\nfrom the host\n.*Read-only file system\n$/);
  assert.match(stderr, /\/x.*Read-only file system/);
  assert.equal(code, 1);
  assert.equal(await Deno.readTextFile(`${volume}/out`), "back\n");
  assert.equal(await Deno.readTextFile(`${volume}/in`), "from the host\n");
});

Deno.test("run gvisor passes a signal on, and kills what takes too long", async () => {
  await using rootfs = await BusyboxRootfs.make();
  // A signal that comes while the start is still being told of gives that up.
  const script = "trap 'echo heard; exit 3' TERM; sleep 1; echo ready; while :; do sleep 0.1; done";
  const child = command.start(["--rootfs", rootfs.path, "sh", "-c", script]);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, "ready\n");
  child.kill("SIGTERM");
  assert.equal((await reader.read()).value, "heard\n");
  assert.equal((await child.status).code, 3);
  await reader.cancel();
  await child.stdin.close().catch(() => undefined);
  await child.stderr.cancel();
  const late = await command.run(["--rootfs", rootfs.path, "--timeout", "1s", "sleep", "1000"]);
  assert.equal(late.code, 124, late.stderr);
});

Deno.test("run gvisor -t gives the command the terminal of its caller", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const words = [
    ...[...command.words, "--rootfs", rootfs.path, "-t"],
    ...["sh", "-c", "'stty size; echo $TERM'"],
  ];
  const script = `stty cols 91 rows 33; ${words.join(" ")}`;
  const { code, stdout } = await new Deno.Command("script", {
    args: ["-qec", script, "/dev/null"],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 0, text);
  assert.match(text, /33 91\r+\nxterm\r+\n/);
});

Deno.test("run gvisor says what is missing and what to do", async () => {
  const rest = ["--rootfs", "/", "true"];
  const missing = await command.run(["--set", "gvisor.path=/nonexistent/runsc", ...rest]);
  assert.equal(missing.code, 125);
  assert.match(missing.stderr, /gvisor.path: "\/nonexistent\/runsc": no such file: install the/);
  const wrong = await command.run(["--set", "gvisor.platform=xen", ...rest]);
  assert.equal(wrong.code, 126);
  assert.match(wrong.stderr, /"gvisor.platform" is the text "xen": expected one of/);
  const ended = await command.run(["--rootfs", "/nonexistent", "true"]);
  assert.equal(ended.code, 127, ended.stderr);
  assert.match(ended.stderr, /cannot use the root file system "\/nonexistent": no such directory/);
});

Deno.test("what a run gvisor left that was killed is ended by the next", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const child = command.start(["--rootfs", rootfs.path, "sh", "-c", "echo ready; sleep 1000"]);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, "ready\n");
  const sandboxes = async () => {
    const found = await processesNaming(PLACES);
    return found.filter(({ command }) => command.includes("runsc-sandbox"));
  };
  const before = await sandboxes();
  assert.ok(before.length > 0);
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  await child.stdin.close().catch(() => undefined);
  await child.stderr.cancel();
  const next = await command.run(["--rootfs", rootfs.path, "echo", "next"]);
  assert.deepEqual([next.code, next.stdout], [0, "next\n"], next.stderr);
  await waitFor("the sandbox to be gone", async () => {
    const ids = new Set(before.map(({ identity }) => identity));
    return (await sandboxes()).every(({ identity }) => !ids.has(identity));
  });
});
