import assert from "node:assert/strict";
import { meaning, parseRunscLog, runscError } from "./runsc_log.ts";

/** A message as runsc writes it: with no line feed at its end. */
function line(msg: string, level = "error"): string {
  return JSON.stringify({ msg, level, time: "2026-01-02T03:04:05.678Z" });
}

Deno.test("a log is read whether or not its messages are apart by line feeds", () => {
  const log = `${line("one", "warning")}${line('two "quoted" \\ {braces}')}\n${line("three")}`;
  assert.deepEqual(parseRunscLog(log), [
    { text: "one", level: "warning" },
    { text: 'two "quoted" \\ {braces}', level: "error" },
    { text: "three", level: "error" },
  ]);
});

Deno.test("what is cut off or no message is left out", () => {
  assert.deepEqual(parseRunscLog(""), []);
  const cut = line("whole") + line("cut").slice(0, -5);
  assert.deepEqual(parseRunscLog(cut), [{ text: "whole", level: "error" }]);
  assert.deepEqual(parseRunscLog('panic: {"a":1} {"msg":3,"level":"error"} {not json}'), []);
});

Deno.test("a huge log is read from its end, in bounded time", () => {
  const log = `${'{"'.repeat(200_000)}${line("x").repeat(5000)}${line("the last")}`;
  assert.equal(parseRunscLog(log).at(-1)?.text, "the last");
});

Deno.test("the last error becomes the message, behind what was being done", () => {
  const log = line("first") + line("loading container: file does not exist") +
    line("cleaning up", "warning");
  const error = runscError('cannot look at container "a"', { status: 128, log });
  assert.equal(error.code, "NotFound");
  assert.equal(
    error.message,
    'cannot look at container "a": loading container: file does not exist',
  );
  assert.deepEqual(error.context, { status: 128 });
});

Deno.test("without a log the words on standard error count, but not the help", () => {
  const stderr = "flag provided but not defined: -nosuch\nUsage: runsc <flags>\n\tcreate\n";
  const error = runscError("cannot list containers", { status: 2, log: "", stderr });
  assert.equal(error.message, "cannot list containers: flag provided but not defined: -nosuch");
});

Deno.test("a runsc that says nothing is said so", () => {
  const error = runscError("cannot x", { status: 137, log: "", stderr: " \n" });
  assert.equal(error.code, "Internal");
  assert.equal(error.message, "cannot x: runsc ended with 137 and said nothing");
});

/** What runsc 20240729 says, word for word, and what that means. */
const SAID: readonly (readonly [string, string, string?])[] = [
  ['loading container "nosuch": file does not exist', "NotFound"],
  ["loading sandbox: file does not exist", "NotFound"],
  [
    "creating container: cannot load sandbox: open /r/s_sandbox:s.state: no such file or directory",
    "NotFound",
  ],
  [
    "creating container: cannot lock container metadata file: container already exists",
    "AlreadyExists",
  ],
  ["creating container: invalid container id: bad/id", "InvalidArgument"],
  ['starting container: cannot start container "a" in state running', "FailedPrecondition"],
  [
    'executing processes for container: executing command "true" in sandbox: container "c" not started',
    "FailedPrecondition",
  ],
  ["cannot delete container that is not stopped without --force flag", "FailedPrecondition"],
  ['pause failed: cannot pause container "c" in state paused', "FailedPrecondition"],
  [
    'signaling container "c": signaling process in container "c" PID 0: no such process',
    "NotFound",
  ],
  ["sandbox is not running", "FailedPrecondition"],
  [
    'waiting on container "c": connecting to control server at PID 7: connection refused',
    "FailedPrecondition",
  ],
  [
    'executing command "nosuch" in sandbox: error finding executable "nosuch" in PATH [/bin /usr/bin]: no such file or directory',
    "InvalidArgument",
    'exec: "nosuch": executable file not found in $PATH',
  ],
  [
    'executing command "/x" in sandbox: failed to load /x: no such file or directory',
    "InvalidArgument",
    'exec: "/x": no such file or directory',
  ],
  [
    'executing command "/etc" in sandbox: failed to load /etc: permission denied',
    "InvalidArgument",
    'exec: "/etc": permission denied',
  ],
  [
    'failed to find initial working directory "/nowhere": no such file or directory',
    "InvalidArgument",
  ],
  [
    'starting container: setting up network: creating interfaces from net namespace "/proc/7/ns/net": cannot run with network enabled in root network namespace',
    "FailedPrecondition",
  ],
  ["unknown platform: nosuch", "FailedPrecondition"],
  [
    'reading spec: error opening spec file "/b/config.json": open /b/config.json: no such file or directory',
    "InvalidArgument",
  ],
  ["saving container metadata: write /r/x: no space left on device", "ResourceExhausted"],
  ["gofer: fork/exec /proc/self/exe: cannot allocate memory", "ResourceExhausted"],
  [
    "starting container: starting sub-container [sh]: error executing callbacks: no host FD available for :host:2, map: map[a:/:5]: goroutine 25 [running]: x",
    "FailedPrecondition",
    "a process that was begun beside a container's first one still had its streams when it was saved, and runsc cannot bring it back",
  ],
  [
    "starting container: starting sub-container [sh]: header error: unexpected EOF:\ngoroutine 28 [running]:\ngvisor.dev/gvisor/pkg/state.safely.func1()",
    "FailedPrecondition",
    "the sandbox cannot be saved or brought back: header error: unexpected EOF",
  ],
  ["something nobody has seen", "Internal"],
];

Deno.test("runsc's words mean the same to callers as those of other runtimes", () => {
  for (const [text, code, words = text] of SAID) {
    assert.deepEqual(meaning(text), { code, words }, text);
  }
});

Deno.test("a message of several lines becomes one, of bounded length", () => {
  const error = runscError("cannot x", { status: 1, log: line(`a\n  b${"c".repeat(5000)}`) });
  assert.match(error.message, /^cannot x: a bc+$/);
  assert.ok(error.message.length < 1100);
});
