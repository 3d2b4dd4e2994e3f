import assert from "node:assert/strict";
import { writeNoteFile } from "./note_file.ts";

Deno.test("a note is written anew, and on a full disk written over", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-note-" });
  const mount = (args: string[]) =>
    new Deno.Command(args[0] ?? "", { args: args.slice(1) }).output();
  const path = `${directory}/note`;
  assert.ok((await mount(["mount", "-t", "tmpfs", "-o", "size=64k", "none", directory])).success);
  try {
    await writeNoteFile(path, "a first and rather long note");
    await writeNoteFile(path, "a second and rather long note");
    assert.equal(await Deno.readTextFile(path), "a second and rather long note");
    const filler = new Uint8Array(1024 * 1024);
    await assert.rejects(Deno.writeFile(`${directory}/filler`, filler), /No space/);
    await writeNoteFile(path, "a third note");
    assert.equal(await Deno.readTextFile(path), "a third note");
    await assert.rejects(writeNoteFile(`${directory}/new`, "text"), {
      code: "ResourceExhausted",
      message: /^cannot write ".*\/new": /,
    });
    const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
    assert.deepEqual(names.toSorted(), ["filler", "note"]);
  } finally {
    await mount(["umount", directory]);
    await Deno.remove(directory);
  }
});
