import assert from "node:assert/strict";
import { StreamSource } from "../../sandboxers/images/bytes.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { pack } from "./pack.ts";
import { TAR_END, tarHeader, tarPadding } from "./tar_writer.ts";
import { unpack } from "./unpack.ts";

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-copy-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Members of an archive that somebody else has made. */
type Member = Partial<Parameters<typeof tarHeader>[0]> & { readonly content?: string };

function archive(...members: Member[]): Uint8Array<ArrayBuffer>[] {
  return [
    ...members.flatMap(({ content = "", ...member }) => {
      const bytes = new TextEncoder().encode(content);
      const header = tarHeader({
        kind: "file",
        path: "x",
        target: "",
        mode: 0o644,
        mtimeSeconds: 1,
        ...member,
        sizeBytes: bytes.length,
      });
      return [header, bytes, tarPadding(bytes.length)];
    }),
    TAR_END,
  ];
}

async function unpackTo(
  target: string,
  chunks: Iterable<Uint8Array<ArrayBuffer>> | AsyncIterable<Uint8Array<ArrayBuffer>>,
  links = true,
): Promise<string[]> {
  const leftOut: string[] = [];
  await using source = new StreamSource(ReadableStream.from(chunks));
  const onLeftOut = (path: string) => leftOut.push(path);
  await unpack(source, { name: "src", target, links, onLeftOut });
  return leftOut;
}

async function* copies(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const piece of packed) yield piece.slice();
}

Deno.test("a tree comes back as it was: content, names of any length, modes, links", () =>
  inDirectory(async (directory) => {
    const long = `${directory}/src/${"d".repeat(120)}/${"ü".repeat(60)}`;
    await Deno.mkdir(`${directory}/src/${"d".repeat(120)}`, { recursive: true });
    const bytes = crypto.getRandomValues(new Uint8Array(65_536));
    await Deno.writeFile(`${directory}/src/big`, new Uint8Array([...bytes, ...bytes, 1]));
    await Deno.writeTextFile(long, "deep");
    await Deno.chmod(long, 0o750);
    await Deno.writeTextFile(`${directory}/src/empty`, "");
    await Deno.symlink("../elsewhere", `${directory}/src/link`);
    await Deno.chmod(`${directory}/src`, 0o500);
    const packed = pack(`${directory}/src`, "src", () => assert.fail("nothing is left out"));
    assert.deepEqual(await unpackTo(`${directory}/out`, copies(packed)), []);
    const [was, is] = await Promise.all(
      ["src/big", "out/big"].map((name) => Deno.readFile(`${directory}/${name}`)),
    );
    assert.ok(was !== undefined && is !== undefined && was.length === is.length);
    assert.ok(was.every((byte, at) => byte === is[at]));
    const moved = long.replace(`${directory}/src`, `${directory}/out`);
    assert.equal(await Deno.readTextFile(moved), "deep");
    assert.equal(((await Deno.stat(moved)).mode ?? 0) & 0o777, 0o750);
    assert.equal(await Deno.readLink(`${directory}/out/link`), "../elsewhere");
    assert.equal(((await Deno.stat(`${directory}/out`)).mode ?? 0) & 0o777, 0o500);
    assert.equal(await Deno.readTextFile(`${directory}/out/empty`), "");
  }));

Deno.test("nothing is written outside, whatever the archive calls it", () =>
  inDirectory(async (directory) => {
    const paths = ["../evil", "/evil", "src/../../evil", "other", "src/../evil", "./../src"];
    for (const path of paths) {
      await assert.rejects(
        unpackTo(`${directory}/out`, archive({ path, content: "x" })),
        (error) => error instanceof SandboxError && error.code === "PermissionDenied",
        path,
      );
    }
    assert.deepEqual(await Array.fromAsync(Deno.readDir(directory)), []);
  }));

Deno.test("nothing is written through links, of the archive or of this host", () =>
  inDirectory(async (directory) => {
    await Deno.mkdir(`${directory}/safe`);
    const link = { kind: "symlink", path: "src/link", target: `${directory}/safe` } as const;
    const root = { kind: "directory", path: "src/" } as const;
    const through = { path: "src/link/evil", content: "x" };
    // Its own links are made last, so the path below is not there yet.
    await assert.rejects(unpackTo(`${directory}/a`, archive(root, link, through)));
    await Deno.mkdir(`${directory}/b`);
    await Deno.symlink(`${directory}/safe`, `${directory}/b/link`);
    await assert.rejects(
      unpackTo(`${directory}/b`, archive(root, through)),
      /leads out of it/,
    );
    // A file takes the place of a link, and what it led to stays as it is.
    await Deno.writeTextFile(`${directory}/safe/file`, "mine");
    await Deno.symlink(`${directory}/safe/file`, `${directory}/b/file`);
    await unpackTo(`${directory}/b`, archive({ path: "src/file", content: "theirs" }));
    assert.equal(await Deno.readTextFile(`${directory}/safe/file`), "mine");
    assert.equal(await Deno.readTextFile(`${directory}/b/file`), "theirs");
    assert.deepEqual(
      (await Array.fromAsync(Deno.readDir(`${directory}/safe`))).map(({ name }) => name),
      ["file"],
    );
  }));

Deno.test("links are left out and told unless they are asked for; bits for other users' rights are dropped", () =>
  inDirectory(async (directory) => {
    const link = { kind: "symlink", path: "src/l", target: "a" } as const;
    const root = { kind: "directory", path: "src" } as const;
    const suid = { path: "src/s", content: "x", mode: 0o4755 };
    const target = `${directory}/out`;
    assert.deepEqual(await unpackTo(target, archive(root, link, suid), false), [`${target}/l`]);
    assert.equal(((await Deno.stat(`${target}/s`)).mode ?? 0) & 0o7777, 0o755);
  }));

Deno.test("an archive that is cut short is no success", () =>
  inDirectory(async (directory) => {
    const [header, content] = archive({ path: "src", content: "x".repeat(600) });
    assert.ok(header !== undefined && content !== undefined);
    await assert.rejects(
      unpackTo(`${directory}/out`, [header, content.slice(0, 100)]),
      /ends in the middle/,
    );
  }));
