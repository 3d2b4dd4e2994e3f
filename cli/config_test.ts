import assert from "node:assert/strict";
import { Workplace } from "./testing/command.ts";

Deno.test("config vmm prints every setting with where it comes from", async () => {
  await using place = await Workplace.make();
  await Deno.writeTextFile(`${place.path}/vmm.toml`, "[hypervisor]\nvcpus = 2\n");
  const args = ["config", "vmm", "--config", "vmm.toml", "--set", "hypervisor.machine_type=q35"];
  const { code, stdout } = await place.run(args);
  assert.equal(code, 0);
  assert.match(stdout, /^\[hypervisor\]$/m);
  assert.match(stdout, /^vcpus = 2 {2}# vmm.toml:2$/m);
  assert.match(stdout, /^machine_type = "q35" {2}# --set$/m);
  assert.match(stdout, /^memory_in_mb = 256 {2}# default$/m);
});

Deno.test("config vmm tells every problem on a line of its own and ends with 1", async () => {
  await using place = await Workplace.make();
  await Deno.writeTextFile(`${place.path}/vmm.toml`, "[hypervisor]\nvcpus = 0\nvcpu = 1\n");
  assert.deepEqual(await place.run(["config", "vmm", "--config", "vmm.toml"]), {
    code: 1,
    stdout: "",
    stderr:
      'quasaur: vmm.toml:3: unknown key "hypervisor.vcpu": did you mean "hypervisor.vcpus"?\n' +
      'quasaur: vmm.toml:2: "hypervisor.vcpus" is the number 0: expected an integer from 1 to 240\n',
  });
  assert.deepEqual(await place.run(["config", "vmm", "--config", "gone.toml"]), {
    code: 1,
    stdout: "",
    stderr: "quasaur: cannot read the configuration gone.toml: no such file\n",
  });
});

Deno.test("config vmm tells which files are missing on this host", async () => {
  await using place = await Workplace.make();
  await Deno.writeTextFile(`${place.path}/file`, "");
  const set = (setting: string): string[] => ["--set", `hypervisor.${setting}`];
  const { code, stderr } = await place.run([
    ...["config", "vmm", ...set("path=/nonexistent/qemu"), ...set("virtiofsd.path=/tmp")],
    ...[...set(`kernel_path=${place.path}/file`), ...set("image_path=/nonexistent")],
  ]);
  assert.equal(code, 0);
  assert.deepEqual(stderr.match(/^quasaur: warning: \S+ "\S+ [^:]*:/gm), [
    'quasaur: warning: hypervisor.path: "/nonexistent/qemu": no such file:',
    'quasaur: warning: hypervisor.image_path: "/nonexistent/initrd.cpio": no such file:',
    'quasaur: warning: hypervisor.virtiofsd.path: "/tmp": it is no file:',
  ]);
});

Deno.test("config vmm --sample prints a file that it takes", async () => {
  await using place = await Workplace.make();
  const { stdout } = await place.run(["config", "vmm", "--sample"]);
  await Deno.writeTextFile(`${place.path}/vmm.toml`, stdout);
  const { code, stderr } = await place.run(["config", "vmm", "--config", "vmm.toml"]);
  assert.equal(code, 0);
  assert.doesNotMatch(stderr, /unknown|expected/);
});

Deno.test("config quark prints every setting, tells problems, and what is missing on this host", async () => {
  await using place = await Workplace.make();
  await Deno.writeTextFile(`${place.path}/quark.toml`, '[gvisor]\nplatform = "ptrace"\n');
  const set = ["--set", "quark.path=/nonexistent/quark"];
  const { code, stdout, stderr } = await place.run(
    ["config", "quark", "--config", "quark.toml", ...set],
  );
  assert.equal(code, 0);
  assert.match(stdout, /^platform = "ptrace" {2}# quark.toml:2$/m);
  assert.match(stdout, /^path = "\/nonexistent\/quark" {2}# --set$/m);
  assert.match(stderr, /warning: quark.path: "\/nonexistent\/quark": no such file: build Quark/);
  const wrong = await place.run(["config", "quark", "--set", "gvisor.platform=xen"]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /--set: "gvisor.platform" is the text "xen": expected one of/);
});
