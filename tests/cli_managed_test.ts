/**
 * The command line over sandboxes that were made without containerd, on gVisor: terminals, streams,
 * logs, copies, and ends.
 *
 * @module
 */

import assert from "node:assert/strict";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";
import { ManagedBed } from "./support/managed_bed.ts";
import { AtTerminal, type Ended, quasaur } from "./support/quasaur_command.ts";

let bed: ManagedBed;
let rootfs: BusyboxRootfs;

Deno.test.beforeAll(async () => {
  rootfs = await BusyboxRootfs.make();
  for (const name of ["tar", "test", "ls"]) {
    await Deno.symlink("busybox", `${rootfs.path}/bin/${name}`);
  }
  await Deno.mkdir(`${rootfs.path}/tmp`);
  bed = await ManagedBed.start("quark");
});

Deno.test.afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rootfs[Symbol.asyncDispose]();
});

async function at(...args: string[]): Promise<Ended> {
  return await quasaur(["--address", bed.sandboxer.paths.socketPath, ...args]);
}

async function done(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await at(...args);
  assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
  return stdout;
}

async function make(name: string, script: string, more: { readonly terminal?: boolean } = {}) {
  const { terminal = false } = more;
  return await bed.client.run({
    name,
    rootfs: { source: { case: "directory", value: rootfs.path } },
    process: { args: ["/bin/sh", "-c", script], env: ["PATH=/bin", "HELD=1"], terminal },
    stdin: true,
  });
}

Deno.test("exec gives a command a terminal, the environment and the user of the container", async () => {
  await make("box", "sleep 1000");
  await using terminal = new AtTerminal(
    "quasaur exec -it box sh -c 'stty size; echo held=$HELD.; read a; echo \"<$a>\"; exit 7'; " +
      'echo "code $?"',
    { QUASAUR_ADDRESS: bed.sandboxer.paths.socketPath },
  );
  assert.match(await terminal.until("held=1."), /30 100\r+\n/);
  await terminal.type("typed\r");
  await terminal.until("<typed>");
  await terminal.until("code 7");
  const plain = await at(
    "exec",
    "-u",
    "5:6",
    "-e",
    "MORE=2",
    "box",
    "sh",
    "-c",
    "id -u; env; exit 3",
  );
  assert.equal(plain.code, 3);
  assert.match(plain.stdout, /^5\n/);
  assert.match(plain.stdout, /^HELD=1$/m);
  assert.match(plain.stdout, /^MORE=2$/m);
  const missing = await at("exec", "box", "nowhere");
  assert.equal(missing.code, 127, missing.stderr);
});

Deno.test("cp copies trees both ways, and writes nothing but what is named", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-cp-" });
  try {
    await Deno.mkdir(`${directory}/src/sub`, { recursive: true });
    const bytes = new Uint8Array(300_000).map((_, i) => (i * 31 + (i >> 8)) & 0xff);
    await Deno.writeFile(`${directory}/src/sub/big`, bytes);
    await Deno.symlink("sub/big", `${directory}/src/link`);
    await make("copied", "sleep 1000");
    await done("cp", `${directory}/src`, "copied:/tmp");
    assert.equal(
      await done("exec", "copied", "sh", "-c", "cd /tmp/src; ls; sha256sum < link"),
      await localSum(bytes),
    );
    const out = await at("cp", "copied:/tmp/src", `${directory}/out`);
    assert.equal(out.code, 0, out.stderr);
    assert.match(out.stderr, /^quasaur: left out ".*\/out\/link": symbolic link to "sub\/big"/);
    assert.deepEqual(await Deno.readFile(`${directory}/out/sub/big`), bytes);
    await done("cp", "--links", "copied:/tmp/src", `${directory}/all`);
    assert.equal(await Deno.readLink(`${directory}/all/link`), "sub/big");
    const none = await at("cp", "copied:/nowhere", directory);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /cannot copy "\/nowhere" from the container: .*no such file/i);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

/** What `ls` and `sha256sum` say of the tree. */
async function localSum(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `link\nsub\n${hex}  -\n`;
}

Deno.test("attach types to a process, leaves it with keys, and logs have what it said", async () => {
  await make("shell", 'while read a; do echo "<$a>"; done; exit 5', { terminal: true });
  const env = { QUASAUR_ADDRESS: bed.sandboxer.paths.socketPath };
  await using first = new AtTerminal('quasaur attach shell; echo "code $?"', env);
  await first.until("");
  await first.type("one\r");
  await first.until("<one>");
  await first.type("\x10\x11");
  await first.until("code 0");
  assert.match(await done("logs", "--tail", "5", "shell"), /<one>/);
  await using second = new AtTerminal('quasaur attach --logs shell; echo "code $?"', env);
  await second.until("<one>");
  await second.type("two\r");
  await second.until("<two>");
  await second.type("\x04");
  await second.until("code 5");
  assert.equal((await at("wait", "shell")).code, 5);
  assert.match(await done("ps", "-a", "--filter", "name=shell"), / 1 exited \(5\) /);
  assert.equal(await done("rm", "shell"), "shell\n");
  assert.equal((await at("wait", "shell")).code, 125);
});

Deno.test("logs are followed to the end, each stream on its own", async () => {
  await make("talker", "echo out; echo err >&2; read go; echo more; exit 0");
  const following = at("logs", "--follow", "talker");
  const args = ["--address", bed.sandboxer.paths.socketPath, "attach", "talker"];
  const attached = await quasaur(args, "go\n");
  assert.equal(attached.code, 0, attached.stderr);
  const { code, stdout, stderr } = await following;
  assert.deepEqual([code, stdout, stderr], [0, "out\nmore\n", "err\n"]);
  const running = await at("rm", "box");
  assert.equal(running.code, 1, "what runs is not deleted without --force");
  await done("rm", "-f", "box", "copied", "talker");
  assert.equal(await done("ps", "-aq"), "");
});
