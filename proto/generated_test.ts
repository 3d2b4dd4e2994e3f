import assert from "node:assert/strict";

const HERE = new URL(".", import.meta.url).pathname;

/** Every generated file below a directory, by its path there. */
async function files(directory: string, below = ""): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const { name, isDirectory } of Deno.readDir(`${directory}/${below}`)) {
    const path = below === "" ? name : `${below}/${name}`;
    if (isDirectory) {
      for (const [key, text] of await files(directory, path)) found.set(key, text);
    } else found.set(path, await Deno.readTextFile(`${directory}/${path}`));
  }
  return found;
}

Deno.test("the generated code is what the .proto files make now", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-proto-" });
  try {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      // Output paths in buf.gen.yaml are relative to this directory.
      args: ["run", "-A", "@bufbuild/buf", "generate", "--output", directory],
      cwd: HERE,
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    assert.deepEqual(await files(`${directory}/gen`), await files(`${HERE}/gen`));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
