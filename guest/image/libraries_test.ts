import assert from "node:assert/strict";
import { programNeeds } from "./libraries.ts";
import { runTool } from "./tool.ts";

/** Builds a program that needs `liba`, which needs `libb`, in a tree of packages. */
async function withTree(body: (root: string, program: Uint8Array) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "quasaur-libraries-" });
  try {
    const libraries = `${root}/usr/lib/x86_64-linux-gnu`;
    await Deno.mkdir(libraries, { recursive: true });
    const cc = async (source: string, ...args: readonly string[]) => {
      await Deno.writeTextFile(`${root}/source.c`, source);
      await runTool(["cc", "-nostdlib", "-o", ...args], { package: "gcc" });
    };
    const shared = ["-shared", "-fPIC", `${root}/source.c`];
    await cc(
      "int b(void) { return 1; }",
      `${libraries}/libb.so.2.5`,
      ...shared,
      "-Wl,-soname,libb.so.2",
    );
    await Deno.symlink("libb.so.2.5", `${libraries}/libb.so.2`);
    await cc(
      "int b(void); int a(void) { return b(); }",
      ...[`${libraries}/liba.so.1`, ...shared, "-Wl,-soname,liba.so.1", `${libraries}/libb.so.2`],
    );
    await cc(
      "int a(void); void _start(void) { a(); }",
      ...[`${root}/program`, `${root}/source.c`, `${libraries}/liba.so.1`],
      ...[`-Wl,-rpath-link,${libraries}`, "-Wl,--dynamic-linker,/lib64/ld-test.so"],
    );
    // A link whose target is a path of the packages' root, not of the machine.
    await Deno.mkdir(`${root}/usr/lib64`);
    await Deno.writeTextFile(`${libraries}/ld-real.so`, "loader");
    await Deno.symlink("/usr/lib/x86_64-linux-gnu/ld-real.so", `${root}/usr/lib64/ld-test.so`);
    await body(root, await Deno.readFile(`${root}/program`));
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("libraries of libraries are found, and the loader, all in the packages", () =>
  withTree(async (root, program) => {
    const { loader, libraries } = await programNeeds(program, "program", root);
    assert.deepEqual(libraries.map(({ name }) => name), ["liba.so.1", "libb.so.2"]);
    assert.equal(loader?.path, "/lib64/ld-test.so");
    assert.equal(new TextDecoder().decode(loader?.bytes), "loader");
    const real = await Deno.readFile(`${root}/usr/lib/x86_64-linux-gnu/libb.so.2.5`);
    assert.deepEqual(libraries[1]?.bytes, real);
  }));

Deno.test("a library that is in no package is told with who needs it", () =>
  withTree(async (root, program) => {
    await Deno.remove(`${root}/usr/lib/x86_64-linux-gnu/libb.so.2`);
    await assert.rejects(
      programNeeds(program, "program", root),
      /the library "libb\.so\.2", which "liba\.so\.1" needs/,
    );
  }));
