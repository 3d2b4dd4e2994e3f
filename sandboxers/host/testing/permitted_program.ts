// deno-lint-ignore-file no-console -- it tells a test what it did
/**
 * Uses all of the host room under the rights of a sandboxer: started by permissions_test.ts with the
 * permissions that are to suffice, and given a directory of its own.
 *
 * @module
 */

import assert from "node:assert/strict";
import { noLog } from "../../log.ts";
import { attachNetwork } from "../../vmm/network/attachment.ts";
import { readPodNetwork } from "../../vmm/network/pod_network.ts";
import { spawnConfined } from "../confined.ts";
import { Gate } from "../gate.ts";
import { HandedStdio } from "../handed_stdio.ts";
import { Launcher } from "../launcher.ts";
import { HostMounter } from "../mounter.ts";
import { TaskRelay } from "../task_relay.ts";
import { Terminal } from "../terminal.ts";

const [directory = "", launcherPath = "", netns = "", socket = ""] = Deno.args;
const launcher = new Launcher(launcherPath);

// Without the launcher, none of this is permitted.
assert.throws(() => Deno.readTextFileSync("/proc/self/status"), Deno.errors.NotCapable);
assert.throws(() => new Deno.Command("/bin/true").spawn(), Deno.errors.NotCapable);
const connecting = Promise.try(() => Deno.connect({ transport: "unix", path: socket }));
await assert.rejects(connecting, Deno.errors.NotCapable);

assert.match((await launcher.facts()).bootId, /^[0-9a-f-]{36}$/);
const self = await launcher.identify(Deno.pid);
assert.ok(self && await launcher.alive(self));

const gate = new Gate(`${directory}/gate.sock`);
using connection = await gate.connect(socket);
const buffer = new Uint8Array(16);
const length = await connection.read(buffer);
console.log("gate", new TextDecoder().decode(buffer.subarray(0, length ?? 0)));

const mounter = new HostMounter(launcher);
await Deno.mkdir(`${directory}/source`);
await Deno.mkdir(`${directory}/target`);
await Deno.writeTextFile(`${directory}/source/file`, "shown");
const [source, target] = [`${directory}/source`, `${directory}/target`];
await mounter.bind([{ source, target, readonly: true, recursive: true }]);
console.log("mount", await Deno.readTextFile(`${target}/file`));
await mounter.unmount(target);

const relay = await TaskRelay.open({
  launcher,
  listen: `${directory}/relay.sock`,
  server: `${directory}/own.sock`,
  dir: directory,
  log: noLog,
});
console.log("relay", await launcher.alive(relay.identity));
await relay.stop();

const fifo = `${directory}/stdout`;
await launcher.run("cannot make a FIFO", ["mkfifo", fifo]);
await Deno.mkdir(`${directory}/streams`);
const stdio = await HandedStdio.open({
  stdin: { kind: "readable", readable: new Blob(["streams handed"]).stream() },
  stdout: { kind: "path", path: fifo },
  stderr: { kind: "null" },
  terminal: false,
}, {
  launcher,
  directory: `${directory}/streams`,
  socketDirectory: directory,
  label: "a process",
  log: noLog,
});
const { command, args } = stdio.command("/bin/cat", []);
const output = Deno.readTextFile(fifo);
const process = new Deno.Command(command, { args: [...args], stderr: "piped" }).spawn();
assert.equal(await new Response(process.stderr).text(), "");
stdio.begun();
await process.status;
console.log(await output);
await stdio[Symbol.asyncDispose]();

const [consoleSocket, control] = [`${directory}/console`, `${directory}/control`];
const files = { socket: consoleSocket, stdin: undefined, stdout: fifo, control };
const terminal = await Terminal.start(launcher, files);
terminal.resize(80, 24);
console.log("terminal", terminal.isOpen);
await terminal.stop();

const network = await readPodNetwork(launcher, netns);
const machine = await spawnConfined(launcher, {
  program: "/bin/sleep",
  args: ["600"],
  directory,
  log: `${directory}/log`,
  user: { uid: 1_879_048_101, gid: 1_879_048_100 },
  network: { taps: 1 },
  cgroup: "",
  diesWithParent: true,
});
const { pid: machinePid } = machine.identity;
const attachment = await attachNetwork(launcher, { machinePid, taps: ["tap0"], netns, network });
console.log("network", network.interfaces.map(({ name }) => name).join());
await attachment.detach();
machine.kill("SIGKILL");
await machine.status;
