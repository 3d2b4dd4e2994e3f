import assert from "node:assert/strict";
import { ProcessState, SandboxState } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { attachCommand } from "./attach.ts";
import { runAttached } from "./client/attached.ts";
import { parseDetachKeys } from "./client/detach_keys.ts";
import { execCommand } from "./exec.ts";
import {
  type AttachAnswer,
  type AttachMessage,
  FakeClient,
  FakePorts,
  runCommandWith,
} from "./testing/fake_fleet.ts";
import { UsageError } from "./usage_error.ts";

const BOX = {
  id: "bbbb",
  name: "box",
  state: SandboxState.READY,
  containers: [{ id: "d1", state: ProcessState.RUNNING }],
};
const encode = (text: string) => new TextEncoder().encode(text);
const STARTED: AttachAnswer = { message: { case: "started", value: { pid: 7 } } };
const exited = (status: number, reason = "exited"): AttachAnswer => ({
  message: { case: "exit", value: { status, reason } },
});

/** Waits until something was sent. */
async function sent(messages: readonly AttachMessage[], name: string): Promise<void> {
  while (!messages.some(({ message }) => message?.case === name)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

Deno.test("exec passes input, outputs and the exit code, and asks for what it does not say", async () => {
  const client = new FakeClient({
    sandboxes: [BOX],
    attach: async function* (requests) {
      yield STARTED;
      await sent(requests, "closeStdin");
      yield { message: { case: "stdout", value: encode("out") } };
      yield { message: { case: "stderr", value: encode("err") } };
      yield exited(9);
    },
  });
  const ports = new FakePorts([client], "input");
  const args = ["-i", "-e", "A=b=c", "-u", "5:6", "-w", "/srv", "box", "ls", "-l", "--", "x"];
  assert.equal(await runCommandWith(execCommand, ports, args), 9);
  assert.deepEqual(ports.said, { output: "out", errors: ["err"] });
  assert.deepEqual(client.sent, [
    {
      message: {
        case: "exec",
        value: {
          target: "d1",
          process: {
            args: ["ls", "-l", "--", "x"],
            env: ["A=b=c"],
            cwd: "/srv",
            uid: 5,
            gid: 6,
            terminal: false,
          },
          stdin: true,
          inherit: true,
          userGiven: true,
        },
      },
    },
    { message: { case: "stdin", value: encode("input") } },
    { message: { case: "closeStdin", value: {} } },
  ]);
});

Deno.test("exec ends with 125, 126 or 127 where the command did not run, and 134 after a trap", async () => {
  const codeAfter = async (answer: SandboxError | AttachAnswer, target = "box") => {
    const client = new FakeClient({
      sandboxes: [BOX],
      attach: answer instanceof SandboxError
        // deno-lint-ignore require-yield -- a failure comes instead
        ? async function* () {
          await Promise.resolve();
          throw answer;
        }
        : async function* () {
          await Promise.resolve();
          yield answer;
        },
    });
    return await runCommandWith(execCommand, new FakePorts([client]), [target, "x"]);
  };
  assert.equal(await codeAfter(exited(0), "nope"), 125);
  assert.equal(await codeAfter(new SandboxError("Unavailable", "gone")), 125);
  assert.equal(await codeAfter(new SandboxError("InvalidArgument", "no module")), 126);
  assert.equal(await codeAfter(new SandboxError("Unknown", "executable file not found")), 127);
  assert.equal(await codeAfter(exited(137, "signaled")), 137);
  assert.equal(await codeAfter(exited(1, "trap")), 134);
});

Deno.test("exec -it refuses where there is no terminal", async () => {
  const ports = new FakePorts([new FakeClient({ sandboxes: [BOX] })]);
  await assert.rejects(runCommandWith(execCommand, ports, ["-it", "box", "sh"]), UsageError);
});

Deno.test("a connection that ends before the process is told of", async () => {
  const client = new FakeClient({
    sandboxes: [BOX],
    attach: async function* () {
      await Promise.resolve();
      yield STARTED;
    },
  });
  const ports = new FakePorts([client]);
  assert.equal(await runCommandWith(attachCommand, ports, ["box"]), 125);
  assert.match(ports.said.errors.join(), /cannot tell how the process ended/);
});

/** A process that writes for ever, to somebody who has gone; answers how it ended and what was sent. */
async function unreadEnd(unread: "leave" | "end") {
  const client = new FakeClient({
    attach: async function* (requests) {
      for (let written = 0; written < 100; written++) {
        yield { message: { case: "stdout", value: encode("x") } };
        const isKilled = requests.some(({ message }) =>
          message?.case === "signal" && message.value === 9
        );
        if (isKilled) return yield exited(137, "signaled");
        await Promise.resolve();
      }
    },
  });
  let writes = 0;
  const end = await runAttached(client.attach(), {
    first: {},
    stdin: false,
    terminal: undefined,
    signals: undefined,
    detachKeys: undefined,
    unread,
    streams: {
      input: () => ReadableStream.from([]),
      output: () => {
        writes++;
        return Promise.reject(new Deno.errors.BrokenPipe());
      },
      error: () => Promise.resolve(),
    },
  });
  assert.equal(writes, 1);
  const signals = client.sent.flatMap(({ message }) =>
    message?.case === "signal" ? [message.value] : []
  );
  return { end, signals };
}

Deno.test("a process whose output nobody reads ends as it does in a pipe, or is left alone", async () => {
  const ended = await unreadEnd("end");
  assert.equal(ended.end.kind, "exit");
  // SIGPIPE first, and SIGKILL where it goes on to write.
  assert.deepEqual(ended.signals, [13, 9]);
  const left = await unreadEnd("leave");
  assert.equal(left.end.kind, "unread");
  assert.deepEqual(left.signals, []);
});

Deno.test("attach leaves the process with the keys for that, and gives the terminal back", async () => {
  const size = { columns: 80, rows: 24 };
  const modes: boolean[] = [];
  const client = new FakeClient({
    attach: async function* (requests) {
      yield { message: { case: "started", value: { terminal: true } } };
      await sent(requests, "stdin");
      await new Promise((resolve) => setTimeout(resolve, 5));
      yield exited(1);
    },
  });
  const end = await runAttached(client.attach(), {
    first: {},
    stdin: true,
    terminal: { size: () => size, setRaw: (raw) => modes.push(raw), onResize: () => () => {} },
    signals: undefined,
    detachKeys: parseDetachKeys("ctrl-p,ctrl-q"),
    unread: "leave",
    streams: {
      input: () => ReadableStream.from([encode("ls"), encode("\x10x\x10"), encode("\x11more")]),
      output: () => Promise.resolve(),
      error: () => Promise.resolve(),
    },
  });
  assert.equal(end.kind, "detached");
  assert.deepEqual(modes, [true, false]);
  const typed = client.sent.flatMap(({ message }) => message?.case === "stdin" ? [message] : []);
  assert.deepEqual(typed.map(({ value }) => new TextDecoder().decode(value)), ["ls", "\x10x"]);
  assert.ok(client.sent.some(({ message }) => message?.case === "resize"));
});

Deno.test("detach keys pass on what only begins like them, and can be switched off", () => {
  const keys = parseDetachKeys("a,b,c");
  const pass = (text: string) => {
    const { bytes, detach } = keys?.pass(encode(text)) ?? { bytes: encode("?"), detach: false };
    return [new TextDecoder().decode(bytes), detach];
  };
  assert.deepEqual(pass("xab"), ["x", false]);
  assert.deepEqual(pass("ab"), ["ab", false]);
  assert.deepEqual(pass("c tail"), ["", true]);
  assert.equal(parseDetachKeys(""), undefined);
  assert.throws(() => parseDetachKeys("ctrl-"), UsageError);
  assert.throws(() => parseDetachKeys("ab"), UsageError);
});
