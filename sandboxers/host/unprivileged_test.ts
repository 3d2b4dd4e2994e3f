import assert from "node:assert/strict";
import { confinedCommand } from "./confined.ts";
import { Launcher } from "./launcher.ts";

/** nobody */
const USER = 65_534;

Deno.test("who is not root runs a program in an empty network, without rights there", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-unprivileged-test-" });
  try {
    await Deno.chown(directory, USER, USER);
    const { command, args } = confinedCommand(new Launcher(), {
      program: "/bin/cat",
      args: ["/proc/self/net/dev", "/proc/self/status"],
      directory,
      log: `${directory}/log`,
      user: undefined,
      network: { taps: 0 },
      cgroup: "",
    });
    const { success, stderr } = await new Deno.Command(command, {
      args: [...args],
      uid: USER,
      gid: USER,
      stdin: "null",
      clearEnv: true,
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    const log = await Deno.readTextFile(`${directory}/log`);
    assert.deepEqual(log.match(/^ *\w+(?=: +\d)/gm)?.map((name) => name.trim()), ["lo"]);
    assert.match(log, /^CapEff:\t0+$/m);
    assert.match(log, /^NoNewPrivs:\t1$/m);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
