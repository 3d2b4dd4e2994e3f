import assert from "node:assert/strict";
import { parseFlags } from "../../flags.ts";
import { settingPaths } from "../../config/schema.ts";
import { VMM_FLAGS } from "./flags.ts";
import {
  defaultVmmConfig,
  loadVmmConfig,
  printVmmConfig,
  readVmmConfig,
  sampleVmmConfig,
} from "./load.ts";
import { FOREIGN_KEYS, VMM_SCHEMA } from "./schema.ts";

/** A file with a text, for the length of a test. */
async function withFile(text: string, test: (path: string) => void): Promise<void> {
  const path = await Deno.makeTempFile({ prefix: "quasaur-vmm-test-", suffix: ".toml" });
  try {
    await Deno.writeTextFile(path, text);
    test(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("the defaults go together and are a small machine", () => {
  const { hypervisor, template, limits } = defaultVmmConfig();
  assert.equal(hypervisor.vcpus, 1);
  assert.equal(hypervisor.memoryInMb, 256);
  assert.equal(hypervisor.machineType, "microvm");
  assert.equal(hypervisor.accelerator, "auto");
  assert.equal(template.enable, true);
  assert.equal(limits.maxVcpus, 0);
});

Deno.test("loadVmmConfig() reads a file in the original's words", async () => {
  const text = `[sandbox]
log_level = "debug"
[hypervisor]
vcpus = 2
memory_in_mb = 512
kernel_path = "/k/vmlinux"
initrd_path = "/k/initrd"
kernel_params = "quiet"
machine_type = "q35"
machine_accelerators = "smm=off,vmport=off"
share_fs = "VirtioFS"
block_device_driver = "VirtioBlk"
hugepages = true
[hypervisor.virtiofsd]
path = "/usr/lib/virtiofsd"
cache = "never"
thread_pool_size = 4
[limits]
annotations = []
`;
  await withFile(text, (file) => {
    const { sandbox, hypervisor, limits } = loadVmmConfig({ file });
    assert.equal(sandbox.logLevel, "debug");
    assert.equal(hypervisor.memoryInMb, 512);
    assert.equal(hypervisor.shareFs, "virtiofs");
    assert.equal(hypervisor.blockDeviceDriver, "virtio-blk");
    assert.equal(hypervisor.virtiofsd.threadPoolSize, 4);
    assert.equal(hypervisor.machineAccelerators, "smm=off,vmport=off");
    assert.deepEqual(limits.annotations, []);
  });
});

Deno.test("loadVmmConfig() names file, line and key of everything that is wrong", async () => {
  await withFile(`[hypervisor]\nvcpus = "two"\n\nmemory_in_mb = 64\nqemu_path = "/q"\n`, (file) => {
    assert.throws(() => loadVmmConfig({ file }), (error: unknown) => {
      assert.ok(error instanceof Error);
      assert.equal(
        error.message,
        "cannot use the configuration of the vmm sandboxer: " +
          `${file}:5: unknown key "hypervisor.qemu_path": it is called "hypervisor.path"; ` +
          `${file}:2: "hypervisor.vcpus" is the text "two": expected an integer from 1 to 240; ` +
          `${file}:4: "hypervisor.memory_in_mb" is the number 64: expected an integer from 96 ` +
          "to 1048576 (MiB)",
      );
      return true;
    });
  });
});

Deno.test("loadVmmConfig() misses a file that was named", () => {
  assert.throws(() => loadVmmConfig({ file: "/nonexistent/vmm.toml" }), { code: "NotFound" });
});

Deno.test("loadVmmConfig() refuses values that do not go together", async () => {
  const wrong: [string, RegExp][] = [
    ["hypervisor.vcpus = 4\nlimits.max_vcpus = 2", /:1: "hypervisor.vcpus" is 4: limits.max_vcpus/],
    [
      "hypervisor.memory_in_mb = 512\nlimits.max_memory_in_mb = 256",
      /:1: "hypervisor.memory_in_mb"/,
    ],
    ["template.memory_step_in_mb = 3", /:1: "template.memory_step_in_mb" is 3: expected an even/],
    ["template.enable = false\ntemplate.pool = 1", /:2: "template.pool" is 1, but template.enable/],
    ["hypervisor.hugepages = true\ntemplate.pool = 1", /:2: "template.pool" .* huge pages/],
    ['hypervisor.share_fs = "virtiofs"\ntemplate.pool = 1', /:2: "template.pool" .*share_fs/],
    ['hypervisor.kernel_params = "a\\nb"', /:1: "hypervisor.kernel_params"/],
    ['hypervisor.machine_accelerators = "kernel=/etc/passwd"', /machine_accelerators/],
    ['hypervisor.cpu_model = "host -enable-kvm"', /cpu_model/],
    ["hypervisor.run_as = 0", /run_as" is the number 0: expected an integer from 1/],
    ['limits.annotations = ["kernel"]', /annotations" is a list of 1: expected a list, each item/],
  ];
  for (const [text, message] of wrong) {
    await withFile(text, (file) => {
      assert.throws(() => loadVmmConfig({ file }), { code: "InvalidArgument", message }, text);
    });
  }
});

Deno.test("deploy/vmm.toml is the sample of the schema", async () => {
  const path = new URL("../../../deploy/vmm.toml", import.meta.url);
  assert.equal(
    await Deno.readTextFile(path),
    sampleVmmConfig(),
    "write it anew: deno task quasaur config vmm --sample > deploy/vmm.toml",
  );
});

Deno.test("the sample without its comment signs gives the defaults", async () => {
  await withFile(sampleVmmConfig().replaceAll(/^# (\w+ = )/gm, "$1"), (file) => {
    const read = readVmmConfig({ file });
    assert.deepEqual(read.problems, []);
    assert.deepEqual(read.values, defaultVmmConfig());
    assert.deepEqual([...read.places.keys()].sort(), settingPaths(VMM_SCHEMA).sort());
  });
});

Deno.test("printVmmConfig() prints what reads back equal, with every source", async () => {
  await withFile("[hypervisor]\nvcpus = 2\n", (file) => {
    const read = readVmmConfig({ file, set: ["limits.max_vcpus=4"] });
    const printed = printVmmConfig(read);
    assert.match(printed, new RegExp(`^vcpus = 2  # ${file}:2$`, "m"));
    assert.match(printed, /^max_vcpus = 4 {2}# --set$/m);
    assert.match(printed, /^memory_in_mb = 256 {2}# default$/m);
    Deno.writeTextFileSync(file, printed);
    assert.deepEqual(loadVmmConfig({ file }), read.values);
  });
});

Deno.test("keys of other projects that have an advice are not keys of ours", () => {
  const known = settingPaths(VMM_SCHEMA);
  for (const key of Object.keys(FOREIGN_KEYS)) assert.ok(!known.includes(key), key);
  for (const advice of Object.values(FOREIGN_KEYS)) {
    const named = /^it is called "(.*)"$/.exec(advice)?.[1];
    if (named === undefined) continue;
    assert.ok(known.some((path) => path === named || path.startsWith(`${named}.`)), named);
  }
});

Deno.test("--config loads the configuration, and --log-level goes before its level", async () => {
  await withFile('sandbox.log_level = "warn"\n', (file) => {
    const outcome = parseFlags("vmm", ["-c", file, "-d", "/d", "-l", "/l.sock"], VMM_FLAGS);
    assert.ok(outcome.kind === "run");
    assert.equal(outcome.flags.logLevel, "warn");
    assert.equal(outcome.own.config.sandbox.logLevel, "warn");
    assert.equal(outcome.flags.dir, "/d");
    assert.equal(outcome.flags.listen, "/l.sock");
    const louder = parseFlags("vmm", ["--config", file, "--log-level=trace"], VMM_FLAGS);
    assert.ok(louder.kind === "run");
    assert.equal(louder.flags.logLevel, "trace");
  });
  assert.throws(() => parseFlags("vmm", ["--config=vmm.toml"], VMM_FLAGS), {
    code: "InvalidArgument",
    message: /--config "vmm.toml": expected an absolute path/,
  });
  assert.throws(() => parseFlags("vmm", ["--config=/nonexistent"], VMM_FLAGS), {
    code: "NotFound",
  });
});
