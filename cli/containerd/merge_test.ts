/**
 * Merging sections into configurations of every form, and taking them out again.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parseToml } from "../../sandboxers/config/toml.ts";
import { applyEdit, revertExactly, revertWhereFound } from "./edits.ts";
import { compare, configVersion, merge } from "./merge.ts";
import { pathText, readKinds, sectionsFor } from "./sections.ts";

const WANTED = { kinds: readKinds([]), runDirectory: "/run/quasaur" };
const RUNTIME = "plugins.'io.containerd.cri.v1.runtime'.containerd";

/** Configurations as people write them, none with any of the sections. */
const FORMS: Readonly<Record<string, string>> = {
  "of one line": "version = 3\n",
  "without a last line end": "version = 3",
  "with Windows line ends": "version = 3\r\n[grpc]\r\n  address = '/a'\r\n",
  "with comments everywhere":
    `# head\nversion = 3 # three\n\n# about runc\n[${RUNTIME}.runtimes.runc]` +
    ` # runc\n  runtime_type = "io.containerd.runc.v2" # its type\n# tail\n`,
  "indented, as containerd prints it": `version = 3\n[plugins]\n  [plugins."io.containerd.cri.v1.` +
    `runtime"]\n    [plugins."io.containerd.cri.v1.runtime".containerd]\n      default_runtime_name` +
    ` = "runc"\n[proxy_plugins]\n  [proxy_plugins.stargz]\n    type = "snapshot"\n`,
  "with empty tables in braces": "version = 3\nproxy_plugins = {}\n",
  "with tables in braces": `version = 3\nproxy_plugins = { stargz = { type = "snapshot" } }\n` +
    `[${RUNTIME}]\n  runtimes = { runc = { runtime_type = "io.containerd.runc.v2" } }\n`,
  "with all plugins in braces": `version = 3\nplugins = { "io.containerd.cri.v1.runtime" = {} }\n`,
  "with dotted keys": `version = 3\nproxy_plugins.stargz.type = "snapshot"\n`,
  "with dotted keys in a table": `version = 3\n[proxy_plugins]\nstargz.type = "snapshot"\n`,
  "with text of several lines":
    `version = 3\n[debug]\nnote = '''\n[proxy_plugins.quasaur-wasm]\n'''\n`,
};

for (const [form, text] of Object.entries(FORMS)) {
  Deno.test(`sections are merged into a configuration ${form}, and taken out again`, () => {
    const sections = sectionsFor(3, WANTED);
    const merged = merge(text, sections, { name: "config.toml", force: false });
    assert.deepEqual(merged.differences, []);
    assert.equal(merged.added.length, sections.length);
    parseToml(merged.text, "the merged configuration");
    for (const section of sections) assert.deepEqual(compare(merged.text, section, "x"), []);
    // What was there is still there, in its order.
    let from = 0;
    for (const line of text.split("\n").filter((it) => /^#|= "|\[.*runc/.test(it))) {
      if (/\{/.test(line)) continue;
      from = merged.text.indexOf(line, from);
      assert.ok(from >= 0, `missing after the merge: ${line}`);
    }
    assert.equal(merged.edits.reduce(applyEdit, text), merged.text);
    assert.equal(revertExactly(merged.text, merged.edits), text);
    const again = merge(merged.text, sections, { name: "config.toml", force: false });
    assert.deepEqual([again.text, again.equal.length], [merged.text, sections.length]);
    // Others have changed the file since.
    const changed = `# by somebody else\n${merged.text}`;
    assert.deepEqual(revertWhereFound(changed, merged.edits), {
      text: `# by somebody else\n${text}`,
      kept: [],
    });
  });
}

Deno.test("version 2 has the runtime handlers in another plugin, and other versions are refused", () => {
  const paths = sectionsFor(2, WANTED).map(({ path }) => pathText(path));
  assert.ok(
    paths.includes("plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.quasaur-wasm"),
    paths.join("\n"),
  );
  assert.equal(configVersion("version = 2", "config.toml"), 2);
  assert.throws(() => configVersion("", "config.toml"), /it has no version: .*migrate/);
  assert.throws(() => configVersion("version = 1", "config.toml"), /version 1: expected .*migrate/);
  assert.throws(() => configVersion("version 3", "config.toml"), /line 1, column/);
});

Deno.test("kinds bring their sandboxer and its handlers, each once", () => {
  const names = (kinds: readonly string[]) =>
    sectionsFor(3, { kinds: readKinds(kinds), runDirectory: "/r" }).map(({ path }) => path.at(-1));
  assert.deepEqual(names(["wasm"]), ["quasaur-wasm", "quasaur-wasm", "quasaur-wasm-process"]);
  assert.deepEqual(names(["gvisor"]), ["quasaur-quark", "quasaur-gvisor"]);
  assert.deepEqual(names(["gvisor", "quark"]), [
    "quasaur-quark",
    "quasaur-gvisor",
    "quasaur-quark",
  ]);
  assert.throws(() => readKinds(["xen"]), /invalid --kind "xen": expected one of wasm, vmm/);
});

/** Sections that are there and are not as they have to be, and how many values are wrong. */
const DIFFERENT: Readonly<Record<string, readonly [text: string, wrong: number]>> = {
  "another address": [
    `version = 3\n[proxy_plugins.quasaur-wasm]\n  type = "sandbox"\n  address = "/elsewhere" # old\n`,
    1,
  ],
  "no sandboxer": [
    `version = 3\n[${RUNTIME}.runtimes.quasaur-wasm]\n  runtime_type = "io.containerd.quasaur-wasm.v1"\n` +
    `  snapshotter = "native"\n\n[grpc]\n  address = "/a"\n`,
    1,
  ],
  "an empty table": [`version = 3\n[proxy_plugins.quasaur-wasm]\n[grpc]\n  uid = 0\n`, 2],
  "tables in braces": [
    `version = 3\n[proxy_plugins]\n  quasaur-wasm = { type = "snapshot", platform = "linux" }\n`,
    2,
  ],
  "dotted keys": [`version = 3\n[proxy_plugins]\n  quasaur-wasm.type = "snapshot"\n`, 2],
  "a number": [`version = 3\n[proxy_plugins.quasaur-wasm]\n  type = 5\n  address = [1, 2]\n`, 2],
};

for (const [form, [text, wrong]] of Object.entries(DIFFERENT)) {
  Deno.test(`a section that differs by ${form} is refused, or replaced by force, and put back`, () => {
    const sections = sectionsFor(3, { ...WANTED, kinds: ["wasm"] });
    const refused = merge(text, sections, { name: "config.toml", force: false });
    assert.equal(refused.differences.length, wrong);
    assert.match(refused.differences[0]?.place ?? "", /^config\.toml:[234]/);
    assert.ok(refused.text.startsWith(text), "what differs is as it was");
    const forced = merge(text, sections, { name: "config.toml", force: true });
    assert.equal(forced.differences.length, wrong);
    for (const section of sections) assert.deepEqual(compare(forced.text, section, "x"), []);
    for (const kept of ["# old", 'snapshotter = "native"', "uid = 0", 'platform = "linux"']) {
      assert.equal(forced.text.includes(kept), text.includes(kept), kept);
    }
    assert.equal(revertExactly(forced.text, forced.edits), text);
    assert.deepEqual(revertWhereFound(`\n${forced.text}`, forced.edits), {
      text: `\n${text}`,
      kept: [],
    });
  });
}

Deno.test("more keys than ours in a section are no difference", () => {
  const text = `version = 3\n[${RUNTIME}.runtimes.quasaur-vmm]\n  snapshotter = "x"\n` +
    `  runtime_type = 'io.containerd.quasaur-vmm.v1'\n  sandboxer = "quasaur-vmm"\n` +
    `[${RUNTIME}.runtimes.quasaur-vmm.options]\n  a = 1\n`;
  const sections = sectionsFor(3, { ...WANTED, kinds: ["vmm"] });
  const merged = merge(text, sections, { name: "config.toml", force: false });
  assert.deepEqual(merged.equal.map(({ path }) => path.at(-2)), ["runtimes"]);
  assert.deepEqual(merged.added.map(({ path }) => path.at(-2)), ["proxy_plugins"]);
});

Deno.test("a configuration that leaves no place is refused by name", () => {
  const sections = sectionsFor(3, WANTED);
  for (
    const [text, expected] of [
      ["version = 3\nproxy_plugins = 5\n", /line 2: proxy_plugins is no table/],
      ["version = 3\n[[proxy_plugins]]\nname = 1\n", /cannot merge into|cannot read/],
    ] as const
  ) {
    assert.throws(() => merge(text, sections, { name: "config.toml", force: true }), expected);
  }
});

Deno.test("a section that was changed after it was added is kept, and named", () => {
  const sections = sectionsFor(3, { ...WANTED, kinds: ["vmm"] });
  const { text, edits } = merge("version = 3\n", sections, { name: "c", force: false });
  const changed = text.replace("/run/quasaur/vmm.sock", "/mine.sock");
  const reverted = revertWhereFound(changed, edits);
  assert.deepEqual(reverted.kept.map(({ path }) => pathText(path)), ["proxy_plugins.quasaur-vmm"]);
  assert.match(reverted.text, /mine\.sock/);
  assert.doesNotMatch(reverted.text, /runtime_type/);
});
