import assert from "node:assert/strict";
import { crunFailure, firstError } from "./crun.ts";

const ACTION = 'cannot create the container "c1"';

function told(complaint: string, program = "sh"): string {
  const { code, message } = crunFailure(ACTION, program, complaint);
  assert.ok(message.startsWith(`${ACTION}: `), message);
  return `${code} ${message.slice(ACTION.length + 2)}`;
}

Deno.test("complaints of crun become the words of runc", () => {
  assert.equal(
    told("executable file `nosuch` not found in $PATH: No such file or directory", "nosuch"),
    'InvalidArgument exec: "nosuch": executable file not found in $PATH',
  );
  assert.equal(
    told("executable file `/bin/x` not found: No such file or directory", "/bin/x"),
    'InvalidArgument exec: "/bin/x": stat /bin/x: no such file or directory',
  );
  assert.equal(
    told("the path `/etc/passwd` exists but it is not executable", "/etc/passwd"),
    'InvalidArgument exec: "/etc/passwd": permission denied',
  );
  assert.equal(
    told("open `/root/x`: Permission denied", "/root/x"),
    'InvalidArgument exec: "/root/x": permission denied',
  );
  assert.equal(
    told("chdir to `/nowhere`: No such file or directory"),
    'InvalidArgument chdir to cwd ("/nowhere") set in config.json failed: ' +
      "no such file or directory",
  );
  assert.equal(
    told("exec container process `/x`: Exec format error", "/x"),
    'InvalidArgument exec: "/x": exec format error (is it for another machine?)',
  );
  assert.equal(
    told("the container `c1` is paused"),
    'FailedPrecondition the container "c1" is paused',
  );
  assert.equal(told("container `c1` does not exist"), 'NotFound container "c1" does not exist');
  assert.equal(told("mkdir `/x`: No space left on device").split(" ")[0], "ResourceExhausted");
  assert.equal(told("something else"), "Internal something else");
});

Deno.test("the first error of crun's log is told", () => {
  const entry = (msg: string) => `{\n  "msg": ${JSON.stringify(msg)},\n  "level": "error"\n}\n`;
  assert.equal(firstError(entry('say "hi"\n\\') + entry("second")), 'say "hi"\n\\');
  assert.equal(firstError(""), undefined);
  assert.equal(firstError('{"level": "error"}'), undefined);
});
