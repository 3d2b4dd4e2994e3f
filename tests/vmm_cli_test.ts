import assert from "node:assert/strict";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { RunCommand } from "./support/cli_command.ts";

const command = new RunCommand("vmm");

Deno.test("run vmm runs a command in a Linux of its own, with its streams and its exit code", async () => {
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

Deno.test("run vmm passes megabytes both ways unchanged", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const bytes = new Uint8Array(3_000_000).map((_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff);
  const child = command.start(["--rootfs", rootfs.path, "cat"]);
  const fed = new Blob([bytes]).stream().pipeTo(child.stdin);
  const { code, stdout, stderr } = await child.output();
  await fed;
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.ok(stdout.length === bytes.length && stdout.every((byte, i) => byte === bytes[i]));
});

Deno.test("run vmm shows files of the host, and lets those be written to that may be", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const volume = `${rootfs.directory}/volume`;
  await Deno.mkdir(volume);
  await Deno.writeTextFile(`${volume}/in`, "from the host\n");
  const { code, stdout, stderr } = await command.run([
    ...["--rootfs", rootfs.path, "-v", `${volume}:/v`, "-v", `${volume}/in:/in:ro`],
    ...["--", "sh", "-c", "cat /v/in /in; echo back > /v/out; echo no 2> /dev/null > /in || true"],
  ]);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "from the host\nfrom the host\n");
  assert.equal(await Deno.readTextFile(`${volume}/out`), "back\n");
  assert.equal(await Deno.readTextFile(`${volume}/in`), "from the host\n");
});

Deno.test("run vmm passes a signal on, and kills what takes too long", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const script = "trap 'echo heard; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
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

Deno.test("run vmm -t gives the command the terminal of its caller", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const words = [
    ...command.words,
    "--rootfs",
    rootfs.path,
    "-t",
    "sh",
    "-c",
    "'stty size; echo $TERM'",
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

Deno.test("run vmm says what is missing and what to do", async () => {
  const rest = ["--rootfs", "/", "true"];
  const missing = await command.run(["--set", "hypervisor.image_path=/nonexistent", ...rest]);
  assert.equal(missing.code, 125);
  assert.match(missing.stderr, /\/nonexistent\/vmlinux.*no such file.*deno task guest:image/);
  const wrong = await command.run(["--set", "hypervisor.vcpus=none", ...rest]);
  assert.equal(wrong.code, 126);
  assert.match(wrong.stderr, /"hypervisor.vcpus" is the text "none"/);
  const empty = await Deno.makeTempDir({ prefix: "quasaur-empty-" });
  try {
    const ended = await command.run(["--rootfs", empty, "true"]);
    assert.equal(ended.code, 126, ended.stderr);
    assert.match(ended.stderr, /root file system: it is empty/);
  } finally {
    await Deno.remove(empty);
  }
});
