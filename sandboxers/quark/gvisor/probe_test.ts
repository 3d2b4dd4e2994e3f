import assert from "node:assert/strict";
import { assertFails, run } from "../../host/testing/fixture.ts";
import { noLog } from "../../log.ts";
import { chooseNetwork } from "./network.ts";
import { choosePlatform } from "./platform.ts";
import { giveBackAddresses, parseAddresses, readyInterfaces } from "./pod_addresses.ts";
import { runscProbe } from "./probe.ts";
import { PROBE_STATUS, probeProgram } from "./probe_program.ts";
import { RunscWorld } from "./testing/world.ts";

const NEVER = new AbortController().signal;
const WAITS = ["/bin/busybox", "sleep", "1000"];

Deno.test("the program that runsc is tried with ends as it should, on the host too", async () => {
  const path = await Deno.makeTempFile({ prefix: "quasaur-runsc-test-" });
  try {
    await Deno.writeFile(path, probeProgram(), { mode: 0o755 });
    assert.equal((await new Deno.Command(path).output()).code, PROBE_STATUS);
    assert.throws(() => probeProgram("riscv64"), /does not run on "riscv64"/);
    // e_machine of the other processor that it knows.
    assert.deepEqual([...probeProgram("aarch64").subarray(18, 20)], [183, 0]);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("the installed runsc is tried, leaves nothing, and what works really works", async () => {
  await using world = await RunscWorld.open();
  const { launcher, directory } = world;
  const { program } = world.runsc.options;
  const probe = runscProbe({ program, launcher, directory: `${directory}/try` });
  const facts = await launcher.facts();
  const base = { wanted: "auto", facts, runsc: "runsc", probe, log: noLog } as const;
  const { platform } = await choosePlatform({ ...base, memoryFile: `${directory}/p.json` }, NEVER);
  assert.match(platform, /^(systrap|ptrace)$/);
  const chosen = await chooseNetwork(
    { ...base, platform, memoryFile: `${directory}/n.json` },
    NEVER,
  );
  assert.deepEqual(await Array.fromAsync(Deno.readDir(`${directory}/try`)), []);
  assert.deepEqual(await world.processes(), []);

  await using net = await testNetwork();
  await using pods = await RunscWorld.open({ ...chosen, platform });
  const id = "pod";
  const network = { kind: "namespace", path: net.netns } as const;
  const before = await net.inside();
  assert.equal(before.length, 2);
  await readyInterfaces(launcher, { id, network }, directory);
  await pods.start({ id, sandboxId: id, args: WAITS, netns: net.netns });
  const script = "echo from the pod > /tmp/f; busybox httpd -p 8080 -h /tmp";
  await pods.runsc.run(id, ["/bin/busybox", "sh", "-c", script]);
  const server = Deno.serve(
    { hostname: "::", port: 0, onListen: () => undefined },
    () => new Response("from the host\n"),
  );
  try {
    for (const [inside, outside] of net.addresses) {
      const response = await fetch(`http://${inside}:8080/f`, {
        signal: AbortSignal.timeout(5000),
      });
      assert.equal(await response.text(), "from the pod\n", inside);
      const url = `http://${outside}:${server.addr.port}/`;
      const wget = ["/bin/busybox", "wget", "-q", "-O", "-", url];
      const answer = await pods.runsc.run(id, wget);
      assert.deepEqual(answer, { status: 0, stdout: "from the host\n", stderr: "" }, outside);
    }
  } finally {
    await server.shutdown();
  }
  if (chosen.network === "sandbox") assert.deepEqual(await net.inside(), []);
  const sandbox = await launcher.identify((await pods.runsc.state(id)).pid);
  assert.ok(sandbox);
  await launcher.kill(sandbox);
  await giveBackAddresses(launcher, directory);
  assert.deepEqual(await net.inside(), before);
});

Deno.test("a runsc that cannot run is told of in its own words, and one that is missing is an error", async () => {
  await using world = await RunscWorld.open();
  const { launcher, directory } = world;
  const options = { launcher, directory: `${directory}/try` };
  const run = { platform: "systrap", network: "none", timeoutMs: 300 } as const;
  const program = `${directory}/runsc`;
  await Deno.writeTextFile(program, "#!/bin/sh\necho 'no luck today' >&2; exit 1\n", {
    mode: 0o755,
  });
  const end = await runscProbe({ ...options, program })(run, NEVER);
  assert.deepEqual({ ...end, message: "" }, { works: false, message: "", isLate: false });
  assert.match(end.message, /runsc ended with 1/);
  await Deno.writeTextFile(program, "#!/bin/sh\nexec sleep 100\n");
  const late = await runscProbe({ ...options, program })(run, NEVER);
  assert.deepEqual({ ...late, message: "" }, { works: false, message: "", isLate: true });
  assert.match(late.message, /did not end within 300 ms/);
  await assertFails(
    runscProbe({ ...options, program })(run, AbortSignal.abort()),
    "Cancelled",
    /cannot try runsc/,
  );
});

/** A network namespace with an interface whose other end is here: what CNI would have made. */
async function testNetwork() {
  const name = `qt${crypto.randomUUID().slice(0, 8)}`;
  const third = Math.floor(Math.random() * 250);
  const v4 = (host: number) => `10.222.${third}.${host}`;
  const v6 = (host: number) => `fd22:${third}::${host}`;
  await run("ip", "netns", "add", name);
  await run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name);
  for (const [address, option] of [[`${v4(1)}/24`], [`${v6(1)}/64`, "nodad"]] as const) {
    await run("ip", "addr", "add", address, "dev", name, ...(option === undefined ? [] : [option]));
  }
  await run("ip", "link", "set", name, "up");
  await run("ip", "-n", name, "addr", "add", `${v4(2)}/24`, "dev", "eth0");
  await run("ip", "-n", name, "addr", "add", `${v6(2)}/64`, "dev", "eth0", "nodad");
  await run("ip", "-n", name, "link", "set", "eth0", "up");
  await run("ip", "-n", name, "link", "set", "lo", "up");
  return {
    netns: `/run/netns/${name}`,
    addresses: [[v4(2), v4(1)], [`[${v6(2)}]`, `[${v6(1)}]`]] as const,
    inside: async () => parseAddresses(await run("ip", "-n", name, "-j", "addr", "show")),
    [Symbol.asyncDispose]: async () => {
      await run("ip", "netns", "del", name);
    },
  };
}
