/**
 * The script that starts the command line: which rights it picks for what, and what `doctor` finds with
 * them on this host, with all that is here and with some of it away.
 *
 * @module
 */

import assert from "node:assert/strict";
import { QUASAUR, quasaur } from "./support/quasaur_command.ts";

/** What the script would start. */
async function started(args: readonly string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(QUASAUR, {
    args: [...args],
    // Prints a line for each word.
    env: { DENO: "/tmp/quasaur-no-such-dir/../../usr/bin/printf", ...env },
    cwd: "/etc",
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, words: decoder.decode(stdout), error: decoder.decode(stderr) };
}

/** Runs the script with a program in the place of Deno that prints its arguments, a line each. */
async function words(args: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-rights-" });
  try {
    const program = `${directory}/deno`;
    await Deno.writeTextFile(program, `#!/bin/sh\nprintf '%s\\n' "$@"\n`, { mode: 0o755 });
    const { code, words, error } = await started(args, { DENO: program, ...env });
    assert.equal(code, 0, error);
    return words.trimEnd().split("\n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function rights(args: readonly string[], env: Record<string, string> = {}) {
  return (await words(args, env)).filter((word) => /^(-P=|--allow)/.test(word));
}

Deno.test("each verb gets its permission set, and nothing beside it", async () => {
  const cases: [string, string][] = [
    ["ps", "cli-client"],
    ["exec -it web sh", "cli-client"],
    ["top", "cli-client"],
    ["doctor vmm", "cli-doctor"],
    ["run wasm a.wasm", "cli"],
    ["run gvisor --rootfs x -- sh", "cli-gvisor"],
    ["containerd config", "cli-host"],
    ["install", "cli-host"],
    ["config vmm", "cli"],
    ["--help", "cli"],
    ["nosuch", "cli"],
  ];
  for (const [line, set] of cases) {
    assert.deepEqual(await rights(line.split(" ")), [`-P=${set}`], line);
  }
  const vmm = await rights(["run", "vmm", "--rootfs", "x", "--", "ps"]);
  assert.equal(vmm[0], "-P=cli-vmm");
});

Deno.test("a socket that is named is the only one that may be used", async () => {
  const expected = [
    "-P=cli-client",
    "--allow-net=unix:/a.sock,unix:/b.sock",
    "--allow-read=/a.sock,/b.sock",
    "--allow-write=/a.sock,/b.sock",
  ];
  assert.deepEqual(
    await rights(["--address", "/a.sock", "ps", "--address=unix:///b.sock"]),
    expected,
  );
  assert.deepEqual(await rights(["ps"], { QUASAUR_ADDRESS: "/a.sock:/b.sock" }), expected);
  const own = await rights(["exec", "web", "tool", "--address", "/c.sock"], {
    QUASAUR_ADDRESS: "/a.sock:/b.sock",
  });
  assert.deepEqual(own, expected, "what follows the target is the program's");
});

Deno.test("cp may use the path that is named, and all of them for links only", async () => {
  const sockets = "/run/quasaur/wasm.sock,/run/quasaur/vmm.sock,/run/quasaur/quark.sock";
  const files = async (...args: string[]) =>
    (await rights(["cp", ...args])).filter((word) => word.startsWith("--allow-write"));
  assert.deepEqual(await files("web:/a", "b"), [`--allow-write=${sockets},/etc/b`]);
  assert.deepEqual(await files("./c:d", "web:/a"), [`--allow-write=${sockets},/etc/./c:d`]);
  assert.deepEqual(await files("web:/a", "-"), []);
  assert.deepEqual(await files("-l", "web:/a", "b"), ["--allow-write"]);
});

Deno.test("a path that would say more to Deno than a path is refused", async () => {
  for (const args of [["cp", "web:/a", "x,/etc/passwd"], ["ps", "--address", "/a,/b"]]) {
    const { code, error } = await started(args);
    assert.equal(code, 2);
    assert.match(error, /^quasaur: Cannot use ".*,.*": .*comma/);
  }
});

Deno.test("arguments reach the command as they are", async () => {
  const odd = ["exec", "web", "a b", "", "*", "$HOME", "'", "--", "-x"];
  const all = await words(odd);
  assert.deepEqual(all.slice(-odd.length), odd);
});

Deno.test("doctor tells the truth about this host, with what is here and what is taken away", async () => {
  const whole = await quasaur(["doctor", "--json"]);
  const { findings, verdicts } = JSON.parse(whole.stdout);
  assert.equal(whole.code, verdicts.some(({ works }: { works: boolean }) => works) ? 0 : 1);
  assert.equal(whole.stderr, "");
  const found = new Map(
    findings.map((one: { id: string; state: string }) => [one.id, one.state] as const),
  );
  // What these tests themselves stand on.
  for (const id of ["wasmedge", "qemu", "runsc", "containerd", "mkfs.erofs", "guest-kernel"]) {
    assert.equal(found.get(id), "ok", id);
  }
  const script = `mount --bind /dev/null /usr/bin/runsc && exec '${QUASAUR}' doctor gvisor`;
  const { code, stdout } = await new Deno.Command("unshare", {
    args: ["-m", "sh", "-c", script],
    env: { DENO: Deno.execPath(), NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 1, text);
  assert.match(text, /missing {2}runsc +no such file: \/usr\/bin\/runsc.*\n +-> deno task setup\n/);
  assert.match(text, /\ngvisor cannot run here: runsc\n$/);
});
