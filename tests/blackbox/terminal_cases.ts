/**
 * Cases about terminals and attaching: what a person at a keyboard expects.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import type { Target } from "./target.ts";

/** Registers the cases. */
export function terminalCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, abilities } = target;
  if (!abilities.shell) return;
  const shell = ["/bin/sh"];

  test("an attached process reads what is typed and ends with its input", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("cat")], stdin: true });
    using stream = await container.attach(false);
    stream.send("one\n");
    await stream.matched(/^one\n$/);
    stream.send("two\n");
    await stream.matched(/^one\ntwo\n$/);
    assert.equal(await container.state(), "RUNNING");
  });

  if (!abilities.terminal) return;

  test("a shell at a terminal echoes, knows its size and learns of a new one", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    using stream = await container.execAtTerminal(shell);
    stream.resize(91, 33);
    // What is typed may come to the shell before the size, which is sent once the exec runs.
    stream.send('until [ "$(stty size)" = "33 91" ]; do sleep 0.1; done; stty size\n');
    await stream.matched(/do sleep 0.1; done; stty size\r\n33 91\r\n/);
    stream.resize(132, 50);
    stream.send("sleep 0.2; stty size\n");
    await stream.matched(/50 132\r\n/);
    stream.send("exit 7\n");
    assert.equal((await stream.ended()).exitCode, 7);
  });

  test("a terminal is one of the container's own", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    using stream = await container.execAtTerminal(["/bin/sh", "-c", "tty"]);
    assert.match((await stream.ended()).stdout, /^\/dev\/pts\/\d+\r\n$/);
  });

  test("a container with a terminal takes commands by attach", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: shell, stdin: true, tty: true };
    const container = await pod.startContainer(options);
    using stream = await container.attach(true);
    stream.send("echo sum $((40 + 2)); test -t 0 && echo terminal\n");
    await stream.matched(/sum 42\r\nterminal\r\n/);
    stream.send("exit 3\n");
    assert.equal((await container.exited()).exitCode, 3);
  });

  test("Ctrl-C at a terminal interrupts what runs there", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    using stream = await container.execAtTerminal(shell);
    stream.send("echo ready; sleep 1000\n");
    await stream.matched(/\r\nready\r\n/);
    stream.send("\x03");
    // What is typed before the terminal has taken note of it is thrown away.
    await stream.matched(/\^C/);
    stream.send("echo after\n");
    await stream.matched(/\r\nafter\r\n/);
    assert.equal(await container.state(), "RUNNING");
  });
}
