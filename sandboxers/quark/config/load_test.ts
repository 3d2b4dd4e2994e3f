import assert from "node:assert/strict";
import { settingPaths } from "../../config/schema.ts";
import { parseFlags } from "../../flags.ts";
import { QUARK_FLAGS } from "./flags.ts";
import { QUARK_CONFIG } from "./load.ts";
import { FOREIGN_KEYS, QUARK_SCHEMA } from "./schema.ts";

/** A file with a text, for the length of a test. */
async function withFile(text: string, test: (path: string) => void): Promise<void> {
  const path = await Deno.makeTempFile({ prefix: "quasaur-quark-test-", suffix: ".toml" });
  try {
    await Deno.writeTextFile(path, text);
    test(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("pods get gVisor by default, by whatever way works on this host", () => {
  const { kernel, gvisor } = QUARK_CONFIG.defaults();
  assert.equal(kernel.default, "gvisor");
  assert.equal(gvisor.path, "/usr/bin/runsc");
  assert.equal(gvisor.platform, "auto");
  assert.equal(gvisor.network, "auto");
});

Deno.test("a quark.toml is read", async () => {
  const text = `[kernel]
default = "quark"
[gvisor]
platform = "ptrace"
network = "host"
overlay = "memory"
file_access = "shared"
directfs = false
extra_args = ["--strace", "--num-network-channels=2"]
[quark]
path = "/opt/quark"
`;
  await withFile(text, (file) => {
    const { kernel, gvisor, quark } = QUARK_CONFIG.load({ file });
    assert.equal(kernel.default, "quark");
    assert.equal(gvisor.fileAccess, "shared");
    assert.equal(gvisor.directfs, false);
    assert.deepEqual(gvisor.extraArgs, ["--strace", "--num-network-channels=2"]);
    assert.equal(quark.path, "/opt/quark");
  });
});

Deno.test("everything that is wrong is told with file, line and key", async () => {
  const wrong =
    `[gvisor]\nplatform = "xen"\n\ndirectfs = "yes"\nbinary_name = "runsc"\ncolour = 1\n`;
  await withFile(wrong, (file) => {
    assert.throws(() => QUARK_CONFIG.load({ file }), (error: unknown) => {
      assert.ok(error instanceof Error);
      assert.equal(
        error.message,
        "cannot use the configuration of the quark sandboxer: " +
          `${file}:5: unknown key "gvisor.binary_name": it is called "gvisor.path"; ` +
          `${file}:6: unknown key "gvisor.colour"; ` +
          `${file}:2: "gvisor.platform" is the text "xen": expected one of "auto", "systrap", ` +
          `"ptrace", "kvm"; ` +
          `${file}:4: "gvisor.directfs" is the text "yes": expected true or false`,
      );
      return true;
    });
  });
});

Deno.test("flags of runsc that are the sandboxer's own are refused", async () => {
  for (const flag of ["--root=/x", "-network=none", "--overlay2=none", "--debug"]) {
    await withFile(`gvisor.extra_args = ["${flag}"]`, (file) => {
      assert.throws(() => QUARK_CONFIG.load({ file }), {
        code: "InvalidArgument",
        message: /:1: "gvisor.extra_args" has "-.*": the sandboxer sets that flag itself/,
      });
    });
  }
  await withFile('gvisor.extra_args = ["run"]', (file) => {
    assert.throws(() => QUARK_CONFIG.load({ file }), { message: /each item a flag such as/ });
  });
});

Deno.test("deploy/quark.toml is the sample of the schema", async () => {
  assert.equal(
    await Deno.readTextFile(new URL("../../../deploy/quark.toml", import.meta.url)),
    QUARK_CONFIG.sample(),
    "write it anew: deno task quasaur config quark --sample > deploy/quark.toml",
  );
});

Deno.test("the sample of quark.toml without its comment signs gives the defaults", async () => {
  await withFile(QUARK_CONFIG.sample().replaceAll(/^# (\w+ = )/gm, "$1"), (file) => {
    const read = QUARK_CONFIG.read({ file });
    assert.deepEqual(read.problems, []);
    assert.deepEqual(read.values, QUARK_CONFIG.defaults());
    assert.deepEqual([...read.places.keys()].sort(), settingPaths(QUARK_SCHEMA).sort());
  });
});

Deno.test("keys of other programs that have an advice are not keys of quark.toml", () => {
  const known = settingPaths(QUARK_SCHEMA);
  for (const [key, advice] of Object.entries(FOREIGN_KEYS)) {
    assert.ok(!known.includes(key), key);
    const named = /^it is called "(.*)"$/.exec(advice)?.[1];
    assert.ok(named === undefined || known.includes(named), advice);
  }
});

Deno.test("--config of the quark sandboxer loads the file, and its level counts", async () => {
  await withFile('sandbox.log_level = "warn"\n', (file) => {
    const outcome = parseFlags("quark", ["-c", file, "-d", "/d", "-l", "/l.sock"], QUARK_FLAGS);
    assert.ok(outcome.kind === "run");
    assert.equal(outcome.flags.logLevel, "warn");
    assert.equal(outcome.own.config.sandbox.logLevel, "warn");
    assert.equal(outcome.flags.taskListen, "/run/quasaur/quark-task.sock");
  });
});
