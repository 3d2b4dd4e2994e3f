import assert from "node:assert/strict";
import { scanTree, type Tree, treeChanges } from "./tree_scan.ts";

const LIMITS = { bytesMax: 1_000, entriesMax: 10 };

/** A directory that goes away again. */
async function directory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "quasaur-scan-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

async function treeOf(path: string): Promise<Tree> {
  const scan = await scanTree(path, LIMITS);
  assert.equal(scan.kind, "tree");
  return scan.tree;
}

/** Changes as `+path` and `-path`. */
function shown(before: Tree, after: Tree): string[] {
  return treeChanges(before, after).map(({ path, node }) => `${node ? "+" : "-"}${path}`);
}

Deno.test("a tree is seen with its directories, files and links, which are not followed", async () => {
  await using top = await directory();
  await Deno.mkdir(`${top.path}/sub`, { mode: 0o750 });
  await Deno.writeTextFile(`${top.path}/sub/file`, "text", { mode: 0o640 });
  await Deno.symlink("/", `${top.path}/root`);
  const tree = await treeOf(top.path);
  assert.deepEqual([...tree.keys()], [".", "root", "sub", "sub/file"]);
  assert.deepEqual(tree.get("root"), { kind: "link", target: "/" });
  const file = tree.get("sub/file");
  assert.ok(file?.kind === "file");
  assert.deepEqual([file.size, file.mode, file.uid], [4, 0o640, Deno.uid()]);
});

Deno.test("a tree that is too large or holds devices is not fit for a copy, and it is said why", async () => {
  await using top = await directory();
  const reason = async () => {
    const scan = await scanTree(top.path, LIMITS);
    return scan.kind === "unfit" ? scan.reason : "fit";
  };
  await Deno.writeTextFile(`${top.path}/a`, "x".repeat(1_001));
  assert.equal(await reason(), "it holds more than 1000 bytes");
  await Deno.truncate(`${top.path}/a`, 1_000);
  assert.equal(await reason(), "fit");
  for (let i = 0; i < 9; i++) await Deno.writeTextFile(`${top.path}/file${i}`, "");
  assert.equal(await reason(), "it holds more than 10 files");
  for (let i = 0; i < 9; i++) await Deno.remove(`${top.path}/file${i}`);
  using _listener = Deno.listen({ transport: "unix", path: `${top.path}/socket` });
  assert.equal(await reason(), `it holds "socket", which is no file, directory or link`);
});

Deno.test("kubelet's switch of a volume shows the new files before the old ones go", async () => {
  await using top = await directory();
  const version = async (name: string, text: string) => {
    await Deno.mkdir(`${top.path}/..${name}`);
    await Deno.writeTextFile(`${top.path}/..${name}/key`, text);
    await Deno.symlink(`..${name}`, `${top.path}/..data_tmp`);
    await Deno.rename(`${top.path}/..data_tmp`, `${top.path}/..data`);
  };
  await version("2024_1", "old");
  await Deno.symlink("..data/key", `${top.path}/key`);
  const before = await treeOf(top.path);
  assert.deepEqual(shown(new Map(), before), [
    "+.",
    "+..2024_1",
    "+..2024_1/key",
    "+..data",
    "+key",
  ]);
  await version("2024_2", "new");
  await Deno.symlink("..data/second", `${top.path}/a-second`);
  await Deno.remove(`${top.path}/..2024_1`, { recursive: true });
  const after = await treeOf(top.path);
  assert.deepEqual(shown(before, after), [
    "+..2024_2",
    "+..2024_2/key",
    "+..data",
    "+a-second",
    "-..2024_1",
  ]);
  assert.deepEqual(shown(after, await treeOf(top.path)), []);
});

Deno.test("a path that changes its kind, mode or content is made anew", async () => {
  await using top = await directory();
  await Deno.mkdir(`${top.path}/was-directory`);
  await Deno.writeTextFile(`${top.path}/was-directory/inside`, "");
  await Deno.writeTextFile(`${top.path}/was-file`, "");
  await Deno.writeTextFile(`${top.path}/mode`, "");
  await Deno.writeTextFile(`${top.path}/same`, "");
  const before = await treeOf(top.path);
  await Deno.remove(`${top.path}/was-directory`, { recursive: true });
  await Deno.writeTextFile(`${top.path}/was-directory`, "");
  await Deno.remove(`${top.path}/was-file`);
  await Deno.mkdir(`${top.path}/was-file`);
  await Deno.chmod(`${top.path}/mode`, 0o600);
  assert.deepEqual(shown(before, await treeOf(top.path)), [
    "-was-file",
    "+mode",
    "+was-directory",
    "+was-file",
  ]);
});

Deno.test("a single file is a tree too, and one that has gone is an empty one", async () => {
  await using top = await directory();
  await Deno.writeTextFile(`${top.path}/file`, "text");
  const tree = await treeOf(`${top.path}/file`);
  assert.deepEqual([...tree.keys()], ["."]);
  await Deno.remove(`${top.path}/file`);
  const gone = await treeOf(`${top.path}/file`);
  assert.equal(gone.size, 0);
  assert.deepEqual(shown(tree, gone), []);
});
