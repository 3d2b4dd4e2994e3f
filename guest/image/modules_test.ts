import assert from "node:assert/strict";
import { pickModules } from "./modules.ts";
import { moduleFile } from "./testing/elf_writer.ts";
import { runTool } from "./tool.ts";

/** Runs a test with modules below a directory: by path, what each needs. */
async function withModules(
  modules: Readonly<Record<string, readonly string[]>>,
  body: (directory: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-modules-" });
  try {
    for (const [path, depends] of Object.entries(modules)) {
      const file = `${directory}/${path}`;
      await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true });
      const bytes = moduleFile(...depends);
      const isPacked = path.endsWith(".xz");
      await Deno.writeFile(
        file,
        isPacked ? await runTool(["xz", "-c"], { input: bytes, package: "xz-utils" }) : bytes,
      );
    }
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("modules come after those that they need, each once", () =>
  withModules({
    "kernel/net/virtio_net.ko.xz": ["net_failover"],
    "kernel/net/net_failover.ko": ["failover"],
    "kernel/net/failover.ko": [],
    "kernel/misc/pvpanic-pci.ko": ["pvpanic", "failover"],
    "kernel/misc/pvpanic.ko": [],
    "kernel/fs/unused.ko": [],
  }, async (directory) => {
    const picked = await pickModules(directory, ["virtio_net", "pvpanic_pci", "failover"]);
    assert.deepEqual(picked.map(({ name }) => name), [
      "failover",
      "net_failover",
      "virtio_net",
      "pvpanic",
      "pvpanic_pci",
    ]);
    assert.deepEqual(picked[2]?.bytes, moduleFile("net_failover"));
  }));

Deno.test("a module that is missing is told with those that need it", () =>
  withModules({ "a.ko": ["b"], "b.ko": ["c"] }, async (directory) => {
    await assert.rejects(pickModules(directory, ["a"]), /the kernel module "c", which a > b needs/);
    await assert.rejects(pickModules(directory, ["d"]), /the kernel module "d" in/);
  }));

Deno.test("modules that need each other are refused", () =>
  withModules({ "a.ko": ["b"], "b.ko": ["a"] }, async (directory) => {
    await assert.rejects(pickModules(directory, ["a"]), /the kernel module "a", which a > b needs/);
  }));
