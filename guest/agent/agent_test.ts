import assert from "node:assert/strict";
import {
  AgentRefusal,
  collect,
  eventually,
  send,
  TestAgent,
  TestHost,
} from "./agent_test_support.ts";
import { PROTOCOL_VERSION } from "../protocol/messages.ts";

Deno.test("agent says who it is, once a host has connected", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const hello = await host.request("hello", {});
  assert.equal(hello.protocol, PROTOCOL_VERSION);
  assert.equal(hello.kernel, Deno.osRelease());
  const ready = await eventually("ready", () => host.events.find(({ kind }) => kind === "ready"));
  assert.deepEqual(ready, { kind: "ready", hello });
});

Deno.test("agent tells exit statuses, signals and programs that cannot be executed", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const { stdout, stderr } = await host.exec("out", ["sh", "-c", "echo a; echo b >&2; exit 7"]);
  assert.deepEqual([(await collect(stdout)).text, stderr && (await collect(stderr)).text], [
    "a\n",
    "b\n",
  ]);
  const exit = await host.exitOf("out");
  assert.deepEqual([exit.status, exit.signaled, exit.oom], [7, false, false]);
  assert.ok(Math.abs(exit.atMs - Date.now()) < 60_000);

  await host.exec("sleeper", ["sleep", "1000"]);
  await host.request("kill", { container: "test", exec: "sleeper", signal: 9 });
  const killed = await host.exitOf("sleeper");
  assert.deepEqual([killed.status, killed.signaled], [137, true]);
  // A signal for what has ended already does nothing.
  await host.request("kill", { container: "test", exec: "sleeper", signal: 9 });

  await assert.rejects(
    host.exec("missing", ["/no/such/program"]),
    (error: unknown) =>
      error instanceof AgentRefusal && error.failure.code === "NotFound" &&
      /no\/such\/program/.test(error.message),
  );
  await assert.rejects(
    host.exec("out", ["true"]),
    (error: unknown) => error instanceof AgentRefusal && error.failure.code === "AlreadyExists",
  );
});

Deno.test("agent passes the end of the input on, and bytes unchanged in both directions", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const { stdin, stdout } = await host.exec("cat", ["cat"], { stdin: true });
  assert.ok(stdin);
  const sent = randomBytes(3_000_000);
  const received = collect(stdout);
  await send(stdin, sent);
  stdin.end();
  assert.deepEqual(await hashOf((await received).bytes), await hashOf(sent));
  assert.equal((await host.exitOf("cat")).status, 0);
});

Deno.test("agent tells the host when a process does not read its input", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const { stdin } = await host.exec("deaf", ["sh", "-c", "exec <&-; sleep 1000"], { stdin: true });
  assert.ok(stdin);
  await send(stdin, new Uint8Array(1_000_000));
  assert.deepEqual(stdin.resetBy, { remote: true, reason: "the process does not read" });
  await host.request("kill", { container: "test", exec: "deaf", signal: 15 });
  assert.equal((await host.exitOf("deaf")).status, 143);
});

Deno.test("agent holds 16 MB of output back for a slow reader and loses nothing", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const file = `${agent.directory}/random`;
  const expected = randomBytes(16_000_000);
  await Deno.writeFile(file, expected);
  const { stdout } = await host.exec("flood", ["cat", file]);
  let pieces = 0;
  const { bytes } = await collect(stdout, async () => {
    // Slow at first, so that pipe and windows are full; later slow now and then.
    if (pieces++ < 20 || pieces % 50 === 0) await new Promise((done) => setTimeout(done, 5));
  });
  assert.equal(bytes.length, 16_000_000);
  assert.equal(await hashOf(bytes), await hashOf(expected));
  assert.equal((await host.exitOf("flood")).status, 0);
  assert.ok(await agent.residentKib() < 24_000, `${await agent.residentKib()} KiB are resident`);
});

Deno.test("agent gives a process a terminal, resizes it and ends it at the hang-up", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const script = "stty size; read line; stty size; echo got $line; exit 3";
  const { stdin, stdout } = await host.exec("tty", ["sh", "-c", script], {
    stdin: true,
    terminal: { columns: 80, rows: 24 },
  });
  assert.ok(stdin);
  let text = "";
  stdout.onReadable = () => {
    for (let piece = stdout.peek(); piece !== undefined; piece = stdout.peek()) {
      text += new TextDecoder().decode(piece);
      stdout.consume(piece.byteLength);
    }
  };
  await eventually("the first size", () => text.includes("24 80"));
  await host.request("resize", { container: "test", exec: "tty", columns: 132, rows: 50 });
  await send(stdin, new TextEncoder().encode("hello\r"));
  assert.equal((await host.exitOf("tty")).status, 3);
  await eventually("the end of the output", () => stdout.ended);
  assert.match(text, /24 80[^]*50 132[^]*got hello/);
});

Deno.test("agent ends outputs although something outlives the process and holds them", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const { stdout } = await host.exec("parent", ["sh", "-c", "sleep 1000 & echo $!"]);
  const { text } = await collect(stdout);
  assert.equal((await host.exitOf("parent")).status, 0);
  Deno.kill(Number(text), "SIGKILL");
  await eventually("the orphan's end", async () => (await agent.children()).length === 0);
});

Deno.test("agent leaves neither zombies nor descriptors behind 2,000 processes", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const runOne = async (name: string) => {
    const { stdout } = await host.exec(name, ["sh", "-c", "exit 5"]);
    await collect(stdout);
    assert.equal((await host.exitOf(name)).status, 5);
    await host.request("acknowledgeExit", { container: "test", exec: name });
  };
  await runOne("first");
  const before = agent.openDescriptors();
  for (let batch = 0; batch < 100; batch++) {
    await Promise.all(Array.from({ length: 20 }, (_, i) => runOne(`p${batch}-${i}`)));
    host.events.length = 0;
  }
  await eventually("the last reaping", async () => (await agent.children()).length === 0);
  await eventually("closed pipes", () => agent.openDescriptors() <= before);
  assert.ok(await agent.residentKib() < 16_000, `${await agent.residentKib()} KiB are resident`);
});

Deno.test("agent works with more than 1,100 open descriptors", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const count = 380;
  const started = await Promise.all(
    Array.from({ length: count }, (_, i) => host.exec(`c${i}`, ["cat"], { stdin: true })),
  );
  assert.ok(agent.openDescriptors() > 1100, `${agent.openDescriptors()} are open`);
  const texts = await Promise.all(started.map(async ({ stdin, stdout }, i) => {
    assert.ok(stdin);
    await send(stdin, new TextEncoder().encode(`hello ${i}`));
    stdin.end();
    return (await collect(stdout)).text;
  }));
  assert.deepEqual(texts, started.map((_, i) => `hello ${i}`));
  await host.exitOf(`c${count - 1}`);
});

Deno.test("agent loses nothing when the connection is cut in the middle of output", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exit 9";
  const { stdout } = await host.exec("lines", ["sh", "-c", script]);
  const cuts = [10_000, 100_000, 200_000, 300_000];
  const collected = collect(stdout, async (received) => {
    if (received < (cuts[0] ?? Infinity)) return;
    cuts.shift();
    host.cut();
    await host.reconnect();
  });
  const lines = (await collected).text.trim().split("\n");
  assert.deepEqual(lines, Array.from({ length: 40_000 }, (_, i) => `line ${i}`));
  assert.deepEqual(cuts, []);
  assert.equal((await host.exitOf("lines")).status, 9);
});

Deno.test("agent keeps outputs and exits for a host that comes anew", async () => {
  await using agent = await TestAgent.start();
  let stream = 0;
  {
    using host = await TestHost.connect(agent);
    const { stdio } = await host.exec("kept", ["sh", "-c", "echo kept; exit 4"]);
    stream = stdio.stdout ?? 0;
    await host.exitOf("kept");
    host.cut();
  }
  using host = await TestHost.connect(agent, 100);
  const stdout = host.openOutput(stream, true);
  const { lastStream } = await host.request("inventory", {});
  assert.ok(lastStream >= stream);
  assert.equal((await host.exitOf("kept")).status, 4);
  assert.equal((await collect(stdout)).text, "kept\n");
  await host.request("acknowledgeExit", { container: "test", exec: "kept" });
  host.events.length = 0;
  await host.request("inventory", {});
  await host.request("hello", {});
  assert.equal(host.findExit("kept"), undefined);
});

Deno.test("agent survives garbage and answers the next host", async () => {
  await using agent = await TestAgent.start();
  for (let round = 0; round < 20; round++) {
    const connection = await agent.connectRaw();
    await connection.write(randomBytes(20_000)).catch(() => {});
    connection.close();
  }
  using host = await TestHost.connect(agent);
  assert.equal((await host.request("hello", {})).protocol, PROTOCOL_VERSION);
  await assert.rejects(
    host.request("exec", {
      container: "test",
      exec: "bad",
      process: { args: [1, 2] },
      stdio: {},
    }),
    (error: unknown) => error instanceof AgentRefusal && error.failure.code === "InvalidArgument",
  );
  await assert.rejects(
    host.request("kill", { container: "test", exec: "unknown", signal: 9 }),
    (error: unknown) => error instanceof AgentRefusal && error.failure.code === "NotFound",
  );
});

Deno.test("agent refuses a second use of a stream and keeps nothing of the process", async () => {
  await using agent = await TestAgent.start();
  using host = await TestHost.connect(agent);
  const { stdio } = await host.exec("one", ["sleep", "1000"]);
  const before = agent.openDescriptors();
  await assert.rejects(
    host.request("exec", {
      container: "test",
      exec: "two",
      process: { args: ["true"] },
      stdio: { stdout: stdio.stdout ?? 0 },
    }),
    (error: unknown) => error instanceof AgentRefusal && error.failure.code === "AlreadyExists",
  );
  assert.equal(agent.openDescriptors(), before);
  await host.request("kill", { container: "test", exec: "one", signal: 9 });
  await host.exitOf("one");
});

function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  return bytes;
}

async function hashOf(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())).toHex();
}
