import assert from "node:assert/strict";
import { forEachMode } from "./modes.ts";
import type { HostileNode } from "./node.ts";
import { hostileTests } from "./node_tests.ts";

const SECRET = "SECRET";

/** How long two guests race, in seconds. */
const RACE_SECONDS = 4;

/** A root file system with a secret beside it, and a directory of the host with one beside it. */
interface Prison {
  /** The root file system. */
  readonly rootfs: string;
  /** A directory that is mounted at `/data`. */
  readonly data: string;
  /** What is outside: never to be read, changed, or added to. */
  readonly outside: string;
}

/** Makes the directories, with links in them that lead out. */
async function makePrison(node: HostileNode): Promise<Prison> {
  const base = await Deno.makeTempDir({ dir: node.directory, prefix: "prison-" });
  const [rootfs, data, outside] = [`${base}/rootfs`, `${base}/data`, base];
  for (const inside of [rootfs, data]) {
    await Deno.mkdir(`${inside}/a/b`, { recursive: true });
    await Deno.writeTextFile(`${inside}/victim`, "mine");
    await Deno.symlink("../secret", `${inside}/link-relative`);
    await Deno.symlink(`${base}/secret`, `${inside}/link-absolute`);
    await Deno.symlink("..", `${inside}/link-directory`);
    await Deno.symlink("../../..", `${inside}/a/b/link-far`);
    await Deno.symlink("/proc/self/root", `${inside}/link-proc`);
    await Deno.symlink("link-loop", `${inside}/link-loop`);
    await Deno.symlink(`${base}/made`, `${inside}/link-dangling`);
  }
  for (const name of ["escape", "race"]) {
    await Deno.copyFile(`${node.image}/${name}.wasm`, `${rootfs}/${name}.wasm`);
  }
  await Deno.copyFile(`${node.image}/escape.wasm`, `${data}/escape.wasm`);
  await Deno.writeTextFile(`${base}/secret`, SECRET);
  await Deno.chmod(base, 0o777);
  return { rootfs, data, outside };
}

/** What is outside, and when it was changed. */
async function fingerprint({ outside }: Prison): Promise<string[]> {
  const names = (await Array.fromAsync(Deno.readDir(outside), ({ name }) => name)).sort();
  assert.equal(await Deno.readTextFile(`${outside}/secret`), SECRET);
  const { mtime, mode, nlink } = await Deno.stat(`${outside}/secret`);
  return [...names, `${mtime?.getTime()} ${mode} ${nlink}`];
}

/** Paths that lead out of a directory of the guest, whatever the last part is. */
function waysOut(base: string): string[] {
  const up = ["..", "../..", "../../../../../../../../../../..", "a/../..", "./..", "a/b/../../.."];
  const links = ["link-directory", "a/b/link-far", "link-directory/link-directory", "link-proc"];
  return [
    ...up.map((path) => `${path}/secret`),
    ...up.map((path) => `${path}/made`),
    ...links.map((path) => `${path}/secret`),
    ...links.map((path) => `${path}/made`),
    `${base}/secret`,
    `/proc/self/root${base}/secret`,
    `..${base}/secret`,
    `../../../../../../../../..${base}/secret`,
    `link-proc${base}/secret`,
    "/../secret",
    "//..//secret",
    "a/./../../secret",
  ];
}

/** Paths that are inside, but links that lead out: to look at, not to change. */
const LINKS = [
  "link-relative",
  "link-absolute",
  "link-directory",
  "link-directory/",
  "link-directory/.",
  "a/b/link-far",
  "link-dangling",
  "link-loop",
  "link-proc/etc/passwd",
  "link-loop/secret",
  "..",
  "../",
  "/..",
  ".",
];

/** A line of the guest that names what worked: `F DIRECTORY PATH: 0`. */
const WORKED = /^(\S+) (\d+) (.*): 0$/;

forEachMode((mode) => {
  const test = hostileTests(mode, { guests: ["escape", "race"] });

  for (const uid of [0, 1_000]) {
    test(`no WASI function gets out of the file system as user ${uid}`, async (node) => {
      await node.watch(`escapes as user ${uid}`, async () => {
        const prison = await makePrison(node);
        const before = await fingerprint(prison);
        await using pod = await node.pod();
        const ways = waysOut(prison.outside);
        for (
          const args of [
            ["change", ...ways],
            ["look", ...ways, ...LINKS],
          ]
        ) {
          await using guest = await pod.run({
            args: ["/escape.wasm", ...args],
            rootfs: prison.rootfs,
            mounts: [[prison.data, "/data"]],
            uid,
          });
          assert.equal((await guest.wait()).status, 0);
          await guest.read();
          assert.match(guest.stdout, /tried everything/);
          assert.doesNotMatch(guest.stdout, /SECRET/);
          if (args[0] === "change") {
            const worked = guest.stdout.split("\n").filter((line) => WORKED.test(line));
            assert.deepEqual(worked, []);
          }
        }
        assert.deepEqual(await fingerprint(prison), before);
        await Deno.remove(prison.outside, { recursive: true });
      });
    });
  }

  test("a directory that turns into a link while it is walked through leads nowhere", async (node) => {
    await node.watch("races", async () => {
      const prison = await makePrison(node);
      const { rootfs, data, outside } = prison;
      // Three ways out: to a directory of the host by its path, upwards, and through /proc. The guest
      // itself cannot make such links; what it can do is to put a directory of its own in their place.
      const targets = [outside, "../..", `/proc/self/root${outside}`];
      for (const [index, target] of targets.entries()) {
        await Deno.mkdir(`${data}/one-${index}/turn`, { recursive: true });
        await Deno.writeTextFile(`${data}/one-${index}/turn/secret`, "harmless");
        await Deno.mkdir(`${data}/other-${index}`);
        await Deno.symlink(target, `${data}/other-${index}/turn`);
      }
      await using pod = await node.pod();
      const mounts = [[data, "/data"]] as const;
      const seconds = `${RACE_SECONDS}`;
      const guests = await Promise.all(targets.flatMap((_, index) => [
        pod.run({
          args: ["/race.wasm", "swap", `/data/one-${index}`, `/data/other-${index}`, seconds],
          rootfs,
          mounts,
        }),
        pod.run({
          args: ["/race.wasm", "walk", `/data/one-${index}/turn/secret`, seconds],
          rootfs,
          mounts,
        }),
      ]));
      const endings = await Promise.all(guests.map((guest) => guest.wait()));
      for (const [index, guest] of guests.entries()) {
        await guest.read();
        assert.doesNotMatch(guest.stdout, /ESCAPED/);
        assert.equal(endings[index]?.status, 0, guest.stdout);
        // Both halves did their part, or the race showed nothing.
        assert.match(guest.stdout, /(swapped [1-9]\d* times|walked \d+ times, opened [1-9])/);
      }
      await Promise.all(guests.map((guest) => guest[Symbol.asyncDispose]()));
      await Deno.remove(outside, { recursive: true });
    });
  });
}, ["in a process"]);
