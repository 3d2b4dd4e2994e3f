import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { createLog } from "../log.ts";
import { Managed } from "../management/fixture.ts";
import { checkDirectory } from "./socket_access.ts";

/** A user that is nobody here. */
const OTHER_UID = 65_534;

/** Connects; Perl is part of every Debian system, and other users can run it. */
const PROGRAM = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; " +
  "print connect(S, pack_sockaddr_un($ARGV[0])) ? 'connected' : $!";

/** Connects to a socket as another user, and says what has come of it. */
async function connectAs(uid: number, path: string): Promise<string> {
  const { stdout, stderr } = await new Deno.Command("/usr/bin/perl", {
    args: ["-e", PROGRAM, path],
    cwd: "/",
    uid,
    gid: uid,
    clearEnv: true,
  }).output();
  const text = new TextDecoder();
  return text.decode(stdout) || text.decode(stderr);
}

Deno.test("nobody but the sandboxer's own user can connect", async () => {
  await using managed = await Managed.serve();
  assert.equal(((await Deno.stat(managed.path)).mode ?? 0) & 0o777, 0o600);
  const directory = managed.path.slice(0, managed.path.lastIndexOf("/"));
  // The directory lets everybody through: it is the socket that does not.
  await Deno.chmod(directory, 0o755);
  assert.equal(await connectAs(OTHER_UID, managed.path), "Permission denied");
  await Deno.chmod(managed.path, 0o666);
  assert.equal(await connectAs(OTHER_UID, managed.path), "connected");
});

Deno.test("a directory that everybody may write to is refused, one of a group's is told", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-access-" });
  try {
    const lines: string[] = [];
    const log = createLog({ write: (line) => void lines.push(line) });
    const path = `${directory}/a.sock`;
    await checkDirectory(path, log);
    assert.deepEqual(lines, []);
    await Deno.chmod(directory, 0o770);
    await checkDirectory(path, log);
    assert.match(lines.join(), /WARN .*a group may write/);
    await Deno.chmod(directory, 0o777);
    await assert.rejects(checkDirectory(path, log), (error: unknown) => {
      assert.ok(error instanceof SandboxError && error.code === "PermissionDenied");
      assert.match(error.message, /everybody may write to .*chmod o-w/);
      return true;
    });
    await Deno.chmod(directory, 0o1777);
    await checkDirectory(path, log);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
