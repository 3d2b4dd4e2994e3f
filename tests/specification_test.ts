import assert from "node:assert/strict";

/** A promise's reference: a file, and the name of a test in it where one is given. */
const REFERENCE = /^ {2}- \[`([^`]+)`\]\(\.\.\/([^)]+)\)(?::\s+"([^"]+)")?$/gm;

/** The page with every item on one line again, as the formatter may have wrapped it. */
async function page(): Promise<string> {
  const text = await Deno.readTextFile(new URL("../docs/specification.md", import.meta.url));
  return text.replace(/\n {4,}/g, " ").replace(/\n {2}(?!- )/g, " ");
}

Deno.test("every test and bench that the specification names exists", async () => {
  const references = [...(await page()).matchAll(REFERENCE)];
  assert.ok(references.length > 40, `only ${references.length} references found`);
  const missing: string[] = [];
  for (const [, shown, path = "", name] of references) {
    assert.equal(shown, path);
    const source = await Deno.readTextFile(new URL(`../${path}`, import.meta.url))
      .catch(() => undefined);
    if (source === undefined) missing.push(path);
    else if (name !== undefined && !source.includes(name)) missing.push(`${path}: "${name}"`);
  }
  assert.deepEqual(missing, []);
});

Deno.test("every promise of the specification names what holds it", async () => {
  const lines = (await page()).split("\n");
  const bare = lines.filter((line, at) =>
    line.startsWith("- ") && !/^ {2}- /.test(lines[at + 1] ?? "")
  );
  assert.deepEqual(bare, []);
});
