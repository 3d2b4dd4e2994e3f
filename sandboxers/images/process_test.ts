import assert from "node:assert/strict";
import { imageProcess, type ProcessChoice } from "./process.ts";
import type { ImageConfig } from "./manifest.ts";
import { temporaryDirectory } from "./testing/memory_image.ts";
import { findUser } from "./users.ts";

const CONFIG: ImageConfig = {
  args: ["/entry", "own"],
  entrypoint: ["/entry"],
  env: ["PATH=/bin", "A=image", "bad"],
  workingDirectory: "srv//x/",
  user: "web",
  labels: {},
  platform: "linux/amd64",
  diffIds: [],
};

const PASSWD = `root:x:0:0:root:/root:/bin/sh
web:x:33:34:web:/var/www:/bin/sh

# comment
odd:x:-1:x::/
`;
const GROUP = `root:x:0:
www:x:34:web
disk:x:6:root,web
tape:x:26:web,other
`;

/** A root file system with users. */
async function rootfs(): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = await temporaryDirectory();
  await Deno.mkdir(`${directory.path}/etc`);
  await Deno.writeTextFile(`${directory.path}/etc/passwd`, PASSWD);
  await Deno.writeTextFile(`${directory.path}/etc/group`, GROUP);
  return directory;
}

Deno.test("what the image says holds, unless said otherwise", async () => {
  await using files = await rootfs();
  const run = (choice: ProcessChoice, config: Partial<ImageConfig> = {}) =>
    imageProcess({ name: "i", rootfs: files.path, config: { ...CONFIG, ...config } }, choice);
  assert.deepEqual(await run({}), {
    args: ["/entry", "own"],
    env: { HOME: "/var/www", PATH: "/bin", A: "image" },
    workdir: "/srv/x/",
    user: { uid: 33, gid: 34, additionalGids: [6, 26] },
  });
  const other = await run({
    command: ["x"],
    env: { A: "mine", B: "c" },
    workdir: "/w",
    user: { uid: 5 },
  });
  assert.deepEqual(other, {
    args: ["/entry", "x"],
    env: { PATH: "/bin", A: "mine", B: "c" },
    workdir: "/w",
    user: { uid: 5, gid: 5, additionalGids: [] },
  });
  assert.deepEqual((await run({ entrypoint: ["sh"] })).args, ["sh"]);
  assert.deepEqual((await run({ entrypoint: ["sh"], command: ["-c", "y"] })).args, [
    "sh",
    "-c",
    "y",
  ]);
  assert.deepEqual((await run({ entrypoint: [], command: ["z"] })).args, ["z"]);
  assert.equal((await run({ home: false })).env["HOME"], undefined);
  assert.equal((await run({}, { env: ["HOME=/h"] })).env["HOME"], "/h");
  await assert.rejects(run({}, { args: [], entrypoint: [] }), {
    code: "InvalidArgument",
    message: /image "i": it starts nothing by itself/,
  });
});

Deno.test("users are those of the root file system", async () => {
  await using files = await rootfs();
  const cases: [string, number, number, number[], string][] = [
    ["", 0, 0, [6], "/root"],
    ["web", 33, 34, [6, 26], "/var/www"],
    ["33", 33, 34, [6, 26], "/var/www"],
    ["web:disk", 33, 6, [], "/var/www"],
    ["web:77", 33, 77, [], "/var/www"],
    ["1000", 1000, 0, [], ""],
    ["1000:www", 1000, 34, [], ""],
  ];
  for (const [text, uid, gid, additionalGids, home] of cases) {
    assert.deepEqual(await findUser(files.path, text), { uid, gid, additionalGids, home }, text);
  }
  for (const text of ["nobody", "odd", "web:none", "4294967295", "web:4294967295"]) {
    await assert.rejects(findUser(files.path, text), { code: "InvalidArgument" }, text);
  }
});

Deno.test("the files with users are looked for inside, wherever links lead", async () => {
  await using files = await rootfs();
  const { path } = files;
  await Deno.rename(`${path}/etc`, `${path}/inner`);
  await Deno.symlink("/../../inner", `${path}/etc`);
  assert.equal((await findUser(path, "web")).uid, 33);
  await Deno.remove(`${path}/etc`);
  // Were it the host's, root would have a home.
  await Deno.symlink("/etc", `${path}/etc`);
  assert.equal((await findUser(path, "0")).home, "");
  await Deno.remove(`${path}/etc`);
  await Deno.mkdir(`${path}/etc/passwd`, { recursive: true });
  assert.equal((await findUser(path, "0")).home, "");
});
