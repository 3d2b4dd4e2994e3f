import assert from "node:assert/strict";
import { StreamSource } from "./bytes.ts";
import { type TarMember, TarReader } from "./tar.ts";

/** The members of an archive, with the text of files. */
async function members(bytes: Uint8Array<ArrayBuffer>): Promise<(TarMember & { text: string })[]> {
  await using source = new StreamSource(new Blob([bytes]).stream());
  const reader = new TarReader(source);
  const all: (TarMember & { text: string })[] = [];
  for (let member = await reader.next(); member !== undefined; member = await reader.next()) {
    // Some contents are read in part only.
    const text = new TextDecoder().decode(await reader.read(10));
    all.push({ ...member, text });
  }
  return all;
}

/** Makes an archive with the machine's own tar(1). */
async function archive(format: string): Promise<Uint8Array<ArrayBuffer>> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-tar-" });
  try {
    const long = `${"d".repeat(90)}/${"e".repeat(50)}`;
    await Deno.mkdir(`${directory}/${long}`, { recursive: true });
    await Deno.writeTextFile(`${directory}/${long}/${"f".repeat(60)}`, "long");
    await Deno.writeTextFile(`${directory}/a`, "first file");
    await Deno.writeTextFile(`${directory}/b`, "x".repeat(1_000));
    await Deno.writeTextFile(`${directory}/empty`, "");
    await Deno.link(`${directory}/a`, `${directory}/hard`);
    await Deno.symlink("../somewhere", `${directory}/soft`);
    const { success, stdout, stderr } = await new Deno.Command("tar", {
      args: ["-c", `--format=${format}`, "--sort=name", "-C", directory, "."],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return new Uint8Array(stdout);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

for (const format of ["ustar", "pax", "gnu", "oldgnu"]) {
  Deno.test(`archives of the format ${format} are read`, async () => {
    const all = await members(await archive(format));
    const byPath = new Map(all.map((member) => [member.path.replace(/\/$/, ""), member]));
    const of = (path: string) => {
      const { kind, target, sizeBytes, text } = byPath.get(path) ?? assert.fail(path);
      return { kind, target, sizeBytes, text };
    };
    const none = { target: "", sizeBytes: 0, text: "" };
    assert.deepEqual(of("./a"), { ...none, kind: "file", sizeBytes: 10, text: "first file" });
    assert.deepEqual(of("./b"), { ...none, kind: "file", sizeBytes: 1_000, text: "xxxxxxxxxx" });
    assert.deepEqual(of("./empty"), { ...none, kind: "file" });
    assert.deepEqual(of("./hard"), { ...none, kind: "hardlink", target: "./a" });
    assert.deepEqual(of("./soft"), { ...none, kind: "symlink", target: "../somewhere" });
    assert.equal(of(`./${"d".repeat(90)}`).kind, "directory");
    const long = `./${"d".repeat(90)}/${"e".repeat(50)}/${"f".repeat(60)}`;
    assert.deepEqual(of(long), { ...none, kind: "file", sizeBytes: 4, text: "long" });
  });
}

Deno.test("a damaged archive is refused with a reason, wherever it ends", async () => {
  const whole = await archive("pax");
  const end = whole.findLastIndex((byte) => byte !== 0);
  for (let length = 100; length < end - 512; length += 777) {
    if (length % 512 === 0) continue;
    await assert.rejects(members(whole.slice(0, length)), {
      code: "InvalidArgument",
      message: /cannot read the tar archive: it ends in the middle/,
    });
  }
  await assert.rejects(members(whole.with(20, 0xff)), { message: /checksum is wrong/ });
  await assert.rejects(members(new TextEncoder().encode("no archive at all".repeat(99))), {
    message: /checksum is wrong/,
  });
  assert.deepEqual(await members(new Uint8Array()), []);
});
