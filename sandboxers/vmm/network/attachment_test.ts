/**
 * The pod network with real namespaces, taps and packets (as root).
 *
 * @module
 */

import assert from "node:assert/strict";
import { processNetns, runInNetns } from "../../host/netns.ts";
import { assertFails, launcher, run, until } from "../../host/testing/fixture.ts";
import { adoptAttachment, attachNetwork } from "./attachment.ts";
import { podNetns, type PodNetwork, readPodNetwork } from "./pod_network.ts";
import { World } from "./testing/world.ts";

/** What a namespace has: its links and its tc filters. */
async function stateOf(world: World): Promise<string> {
  const links = await world.pod("-o", "link");
  const qdiscs = await world.within("pod", "tc", "qdisc");
  return `${links}${qdiscs}`.replaceAll(/qdisc noqueue 0: dev \S+ root refcnt 2 \n/g, "");
}

async function pings(world: World, address: string, count = 3): Promise<void> {
  await world.within("node", world.program, "ping", address, `${count}`);
}

Deno.test("packets cross between the node and a guest whose tap was moved into the pod", async () => {
  await using world = await World.create();
  await world.connect("10.80.0.2/24", "10.80.0.1/24");
  const network = await readPodNetwork(launcher, world.netns);
  const [eth0] = network.interfaces;
  assert.equal(eth0?.name, "eth0");
  const before = await stateOf(world);
  const machine = await world.machine(eth0.mac, "10.80.0.2");
  const { pid } = machine.identity;
  const options = { machinePid: pid, taps: ["tap0"], netns: world.netns, network };
  const attachment = await attachNetwork(launcher, options);
  await pings(world, "10.80.0.2", 20);
  // It was the guest that answered, not the host's stack in the namespace.
  assert.match(await world.pod("-s", "link", "show", "qtap0"), /,UP/);
  const own = await run("nsenter", `--net=${processNetns(pid)}`, "ip", "-o", "link");
  assert.doesNotMatch(own, /tap0/);

  // A later sandboxer knows how to take it back.
  const record = JSON.parse(JSON.stringify(attachment.record));
  await adoptAttachment(launcher, record).detach();
  assert.equal(await stateOf(world), before);
  const back = await run("nsenter", `--net=${processNetns(pid)}`, "ip", "-o", "link");
  assert.match(back, /tap0: <BROADCAST,MULTICAST/);
  // Now the host answers, as without a guest.
  await pings(world, "10.80.0.2");
  await attachment.detach();

  // The same machine, or another, can be put there again.
  const again = await attachNetwork(launcher, options);
  await pings(world, "10.80.0.2");
  await again.detach();
});

Deno.test("a machine that died leaves nothing that stands in the way of the next", async () => {
  await using world = await World.create();
  await world.connect("10.81.0.2/24", "10.81.0.1/24");
  const network = await readPodNetwork(launcher, world.netns);
  const mac = network.interfaces[0]?.mac ?? "";
  const before = await stateOf(world);
  const first = await world.machine(mac, "10.81.0.2");
  const common = { taps: ["tap0"], netns: world.netns, network };
  const attachment = await attachNetwork(launcher, { ...common, machinePid: first.identity.pid });
  first.kill("SIGKILL");
  await first.status;
  await until("its tap to go", async () => !(await world.pod("-o", "link")).includes("qtap0"));
  await attachment.detach();
  assert.equal(await stateOf(world), before);
  const second = await world.machine(mac, "10.81.0.2");
  await attachNetwork(launcher, { ...common, machinePid: second.identity.pid });
  await pings(world, "10.81.0.2");
});

Deno.test("a failure half-way leaves the pod and the machine as they were", async () => {
  await using world = await World.create();
  await world.connect("10.82.0.2/24", "10.82.0.1/24");
  const network = await readPodNetwork(launcher, world.netns);
  const machine = await world.machine(network.interfaces[0]?.mac ?? "", "10.82.0.2");
  const before = await stateOf(world);
  const { pid: machinePid } = machine.identity;
  const [link] = network.links;
  assert.ok(link);
  // The second interface is not there, which is found out after the first has its tap.
  const wrong = { ...network, links: [link, { ...link, name: "eth7" }] };
  const options = { machinePid, taps: ["tap0", "tap0"], netns: world.netns, network: wrong };
  await assertFails(
    attachNetwork(launcher, options),
    "FailedPrecondition",
    /"ip" failed .*tap0|Cannot find device/,
  );
  assert.equal(await stateOf(world), before);
  const two = await world.machine(network.interfaces[0]?.mac ?? "", "10.82.0.2", 2);
  const missing = {
    ...options,
    machinePid: two.identity.pid,
    taps: ["tap0", "tap1"],
  };
  await assertFails(
    attachNetwork(launcher, missing),
    "FailedPrecondition",
    /"tc" failed .*Cannot find device "eth7"/,
  );
  assert.equal(await stateOf(world), before);
  const good = { machinePid, taps: ["tap0"], netns: world.netns, network };
  await attachNetwork(launcher, good);
  await pings(world, "10.82.0.2");
});

Deno.test("a machine with fewer taps than the pod has interfaces is refused", async () => {
  await using world = await World.create();
  await world.connect("10.83.0.2/24", "10.83.0.1/24");
  const network = await readPodNetwork(launcher, world.netns);
  const options = { machinePid: Deno.pid, taps: [], netns: world.netns, network };
  await assertFails(
    attachNetwork(launcher, options),
    "FailedPrecondition",
    /it has 1 interfaces, and the microVM 0/,
  );
});

Deno.test("a macvlan interface is served by a tap", async () => {
  await using world = await World.create();
  // The pod's macvlan lies on a device of the node, whose other end is a neighbour's.
  await world.node("link", "add", "up0", "type", "veth", "peer", "out0");
  await world.node("link", "set", "up0", "up");
  await world.node("link", "set", "out0", "up");
  await world.node("addr", "add", "10.84.0.1/24", "dev", "out0");
  await world.node("link", "add", "link", "up0", "name", "m0", "type", "macvlan", "mode", "bridge");
  await world.node("link", "set", "m0", "netns", `${world.name}-pod`, "name", "eth0");
  await world.pod("addr", "add", "10.84.0.2/24", "dev", "eth0");
  await world.pod("link", "set", "eth0", "up");
  const network = await readPodNetwork(launcher, world.netns);
  assert.equal(network.links[0]?.kind, "macvlan");
  const machine = await world.machine(network.interfaces[0]?.mac ?? "", "10.84.0.2");
  const { pid: machinePid } = machine.identity;
  await attachNetwork(launcher, { machinePid, taps: ["tap0"], netns: world.netns, network });
  await pings(world, "10.84.0.2");
});

Deno.test("several interfaces each have their tap", async () => {
  await using world = await World.create();
  await world.connect("10.85.0.2/24", "10.85.0.1/24");
  const [node, pod] = [`${world.name}-node`, `${world.name}-pod`];
  await run("ip", "link", "add", "v1", "netns", node, "type", "veth", "peer", "net1", "netns", pod);
  await world.node("addr", "add", "10.86.0.1/24", "dev", "v1");
  await world.node("link", "set", "v1", "up");
  await world.pod("addr", "add", "10.86.0.2/24", "dev", "net1");
  await world.pod("link", "set", "net1", "mtu", "1400", "up");
  const network = await readPodNetwork(launcher, world.netns);
  assert.deepEqual(network.interfaces.map(({ name, device, mtu }) => [name, device, mtu]), [
    ["eth0", 0, 1500],
    ["net1", 1, 1400],
  ]);
  const machine = await world.machine(network.interfaces[0]?.mac ?? "", "10.85.0.2", 3);
  const { pid: machinePid } = machine.identity;
  const taps = ["tap0", "tap1", "tap2"];
  await attachNetwork(launcher, { machinePid, taps, netns: world.netns, network });
  await pings(world, "10.85.0.2");
  // Nobody is behind the second tap: the host's stack no longer answers for it.
  await assert.rejects(pings(world, "10.86.0.2", -1));
});

Deno.test("an interface that no tap can serve is refused by name and type", async () => {
  await using world = await World.create();
  await world.pod("link", "add", "br9", "type", "bridge");
  await world.pod("link", "set", "br9", "up");
  assert.deepEqual((await readPodNetwork(launcher, world.netns)).links, []);
  await world.pod("addr", "add", "10.87.0.2/24", "dev", "br9");
  await assertFails(
    readPodNetwork(launcher, world.netns),
    "FailedPrecondition",
    /cannot use the interface "br9" of the pod's network ".*" for a microVM: its type is bridge/,
  );
});

Deno.test("a namespace that is gone, no namespace, and the host's are told apart", async () => {
  await assertFails(
    readPodNetwork(launcher, "/run/netns/quasaur-nowhere"),
    "NotFound",
    /cannot open the network namespace "\/run\/netns\/quasaur-nowhere": ENOENT/,
  );
  await assertFails(readPodNetwork(launcher, "/etc/passwd"), "InvalidArgument", /no network name/);
  assert.throws(() => podNetns({ kind: "host" }), /cannot give a microVM the host's network/);
  assert.equal(podNetns({ kind: "namespace", path: "/run/netns/a" }), "/run/netns/a");
});

Deno.test("an ingress qdisc of somebody else is used, and left", async () => {
  await using world = await World.create();
  await world.connect("10.88.0.2/24", "10.88.0.1/24");
  await world.within("pod", "tc", "qdisc", "add", "dev", "eth0", "clsact");
  const network = await readPodNetwork(launcher, world.netns);
  assert.equal(network.links[0]?.hasIngress, true);
  const before = await stateOf(world);
  const machine = await world.machine(network.interfaces[0]?.mac ?? "", "10.88.0.2");
  const { pid: machinePid } = machine.identity;
  const options = { machinePid, taps: ["tap0"], netns: world.netns, network };
  const attachment = await attachNetwork(launcher, options);
  await pings(world, "10.88.0.2");
  await attachment.detach();
  assert.equal(await stateOf(world), before);
  assert.equal(await world.within("pod", "tc", "filter", "show", "dev", "eth0", "ingress"), "");
});

/** A namespace with a network stack of its own in the place of a guest's; its device is a veth. */
async function stackGuest(world: World, network: PodNetwork) {
  const name = `${world.name}-guest`;
  const [eth0] = network.interfaces;
  assert.ok(eth0);
  await using undo = new AsyncDisposableStack();
  await run("ip", "netns", "add", name);
  undo.defer(async () => void await run("ip", "netns", "del", name));
  const guest = (...args: string[]) => run("ip", "-n", name, ...args);
  // The end that is moved into the pod starts where a machine's tap does.
  const machine = await world.start("/bin/sleep", ["600"], 0);
  const place = `${world.name}-machine`;
  await run("ip", "netns", "attach", place, `${machine.identity.pid}`);
  undo.defer(async () => void await run("ip", "netns", "del", place));
  await run(
    "ip",
    "link",
    "add",
    "eth0",
    "netns",
    name,
    "type",
    "veth",
    "peer",
    "tap0",
    "netns",
    place,
  );
  await guest("link", "set", "eth0", "address", eth0.mac, "mtu", `${eth0.mtu}`, "up");
  await guest("link", "set", "lo", "up");
  for (const address of eth0.addresses) {
    // Nobody else has it: the kernel need not ask around for a second.
    const nodad = address.includes(":") ? ["nodad"] : [];
    await guest("addr", "add", address, "dev", "eth0", ...nodad);
  }
  for (const route of network.routes) {
    const family = route.family === "inet6" ? ["-6"] : [];
    const via = route.gateway === undefined ? [] : ["via", route.gateway];
    const scope = route.scope === undefined ? [] : ["scope", route.scope];
    await guest(
      ...family,
      "route",
      "add",
      route.destination,
      ...via,
      "dev",
      route.interface,
      ...scope,
    );
  }
  for (const { address, mac, interface: device } of network.neighbours) {
    await guest("neigh", "add", address, "lladdr", mac, "dev", device, "nud", "permanent");
  }
  const settings = Object.entries(network.sysctls ?? {});
  await runInNetns(launcher, "cannot set", [{
    netns: `/run/netns/${name}`,
    program: "sysctl",
    commands: settings.map(([key, value]) => `${key.replace(/^net\//, "")} ${value}`),
  }]);
  const owned = undo.move();
  return {
    machinePid: machine.identity.pid,
    exec: (...args: string[]) =>
      new Deno.Command("ip", { args: ["netns", "exec", name, ...args], stdout: "piped" }).spawn(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

Deno.test("the namespace's 127.0.0.1 leads to the guest's own, as port forwarding needs it", async () => {
  await using world = await World.create();
  await world.connect("10.90.0.2/24", "10.90.0.1/24");
  await world.pod("link", "set", "lo", "up");
  await world.pod("route", "add", "default", "via", "10.90.0.1");
  await world.pod("addr", "add", "fd00:90::2/64", "dev", "eth0", "nodad");
  await world.node("addr", "add", "fd00:90::1/64", "dev", "v0", "nodad");
  await world.pod("route", "add", "default", "via", "fd00:90::1");
  const network = await readPodNetwork(launcher, world.netns);
  await using guest = await stackGuest(world, network);
  const { machinePid } = guest;
  const before = await world.pod("addr", "show", "lo");
  const options = { machinePid, taps: ["tap0"], netns: world.netns, network };
  const attachment = await attachNetwork(launcher, options);
  // One service that listens at loopback only, and one at every address.
  const servers = [["127.0.0.1", "8080"], ["0.0.0.0", "8081"], ["::", "8082"]].map((args) =>
    guest.exec(world.program, "serve", ...args)
  );
  try {
    for (const server of servers) {
      const reader = server.stdout.getReader();
      await reader.read();
      await reader.cancel();
    }
    const ask = (place: "pod" | "node", address: string, port: string) =>
      world.within(place, world.program, "ask", address, port);
    assert.equal(await ask("pod", "127.0.0.1", "8080"), "served");
    assert.equal(await ask("pod", "127.0.0.1", "8081"), "served");
    assert.equal(await ask("node", "10.90.0.2", "8081"), "served");
    assert.equal(await ask("node", "fd00:90::2", "8082"), "served");
    // From outside, loopback is the guest's own affair.
    await assert.rejects(ask("node", "10.90.0.2", "-8080"));
    await world.node("addr", "del", "127.0.0.1/8", "dev", "lo").catch(() => undefined);
    await world.node("route", "add", "127.0.0.1/32", "via", "10.90.0.2", "src", "10.90.0.1");
    await assert.rejects(ask("node", "127.0.0.1", "-8080"));
  } finally {
    for (const server of servers) {
      server.kill("SIGKILL");
      await server.status;
    }
  }
  await attachment.detach();
  assert.equal(await world.pod("addr", "show", "lo"), before);
});
