/**
 * Reading a pod's network from what iproute2 printed in real namespaces: as the ptp plugin leaves
 * them, as Calico does, and with several interfaces and all kinds of routes.
 *
 * @module
 */

import assert from "node:assert/strict";
import { parsePodNetwork } from "./ip_json.ts";
import type { PodNetwork } from "./pod_network.ts";

/** Lines of `address show`, `route show table all`, `neighbour show` and tc's `qdisc show`. */
async function recorded(name: string): Promise<readonly [state: string, qdiscs: string]> {
  const text = await Deno.readTextFile(new URL(`./testdata/${name}.txt`, import.meta.url));
  const lines = text.trim().split("\n");
  return [lines.slice(0, 3).join("\n"), lines[3] ?? ""];
}

async function parsed(name: string): Promise<PodNetwork> {
  return parsePodNetwork("/run/netns/test", ...await recorded(name));
}

/** Addresses, routes and neighbours for port forwarding are in a test of their own. */
function withoutForwarding({ routes, neighbours }: PodNetwork) {
  const own = /^169\.254\.127\.1\b/;
  return {
    routes: routes.filter(({ destination }) => !own.test(destination)),
    neighbours: neighbours.filter(({ address }) => !own.test(address)),
  };
}

Deno.test("a pod of the ptp plugin: its subnet is behind the gateway, not on the link", async () => {
  const network = await parsed("ptp");
  assert.deepEqual(network.interfaces, [{
    name: "eth0",
    device: 0,
    mac: "0a:58:0a:16:00:05",
    mtu: 1450,
    // With /24 the guest's kernel would look for neighbours on the link that are not there.
    addresses: ["10.22.0.5/32", "fd00:22::5/64"],
  }]);
  const common = { interface: "eth0" };
  assert.deepEqual(withoutForwarding(network), {
    routes: [
      { destination: "10.22.0.1", family: "inet", ...common, scope: "link", source: "10.22.0.5" },
      { destination: "default", family: "inet", ...common, gateway: "10.22.0.1" },
      {
        destination: "10.22.0.0/24",
        family: "inet",
        ...common,
        gateway: "10.22.0.1",
        source: "10.22.0.5",
      },
      { destination: "default", family: "inet6", ...common, gateway: "fd00:22::1", metric: 1024 },
    ],
    neighbours: [{ address: "10.22.0.1", mac: "ee:ee:ee:ee:ee:ee", interface: "eth0" }],
  });
  assert.deepEqual(network.links, [{ name: "eth0", kind: "veth", mtu: 1450, hasIngress: false }]);
  assert.deepEqual(network.warnings, []);
});

Deno.test("a pod of Calico: the gateway is on the link whatever its address is", async () => {
  const network = await parsed("calico");
  assert.deepEqual(network.interfaces[0]?.addresses, ["192.168.7.9/32"]);
  assert.deepEqual(withoutForwarding(network).routes, [
    { destination: "169.254.1.1", family: "inet", interface: "eth0", scope: "link" },
    {
      destination: "default",
      family: "inet",
      interface: "eth0",
      gateway: "169.254.1.1",
      onlink: true,
    },
  ]);
});

Deno.test("several interfaces: what the guest's kernel does by itself is left out", async () => {
  const network = await parsed("several");
  assert.deepEqual(
    network.interfaces.map(({ name, device, addresses }) => [name, device, addresses]),
    [
      ["eth0", 0, ["10.88.0.7/16"]],
      ["net2", 1, ["10.9.0.1/32"]],
      ["net1", 2, ["172.16.0.2/24"]],
    ],
  );
  assert.deepEqual(network.links.map(({ kind }) => kind), ["veth", "veth", "macvlan"]);
  assert.deepEqual(withoutForwarding(network).routes, [
    // A peer's route does not come with the address.
    {
      destination: "10.9.0.2",
      family: "inet",
      interface: "net2",
      scope: "link",
      source: "10.9.0.1",
    },
    {
      destination: "default",
      family: "inet",
      interface: "eth0",
      gateway: "10.88.0.1",
      metric: 100,
    },
    { destination: "198.51.100.0/24", family: "inet", interface: "eth0", gateway: "10.88.0.1" },
  ]);
  assert.deepEqual(network.warnings, [
    "the route to 192.0.2.0/24 is not in the guest: it is in table 77",
    "the route to 198.51.100.0/24 has one way in the guest, not 2",
    "the route to 203.0.113.0/24 is not in the guest: its type is blackhole",
  ]);
});

Deno.test("the guest knows the way back for port forwarding, at its first interface only", async () => {
  const network = await parsed("several");
  assert.deepEqual(network.routes[0], {
    destination: "169.254.127.1/32",
    family: "inet",
    interface: "eth0",
    scope: "link",
  });
  assert.deepEqual(network.neighbours.at(-1), {
    address: "169.254.127.1",
    mac: "02:00:00:7f:00:01",
    interface: "eth0",
  });
  assert.deepEqual(network.sysctls, { "net/ipv4/conf/eth0/route_localnet": "1" });
});

/** One interface, changed. */
function link(change: Readonly<Record<string, unknown>>): string {
  return JSON.stringify([{
    ifname: "eth0",
    flags: ["BROADCAST", "UP"],
    mtu: 1500,
    link_type: "ether",
    address: "02:00:00:00:00:01",
    linkinfo: { info_kind: "veth" },
    addr_info: [{ family: "inet", local: "10.0.0.2", prefixlen: 24, scope: "global" }],
    ...change,
  }]);
}

Deno.test("interfaces that cannot be mirrored are refused, unless nobody uses them", () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { linkinfo: { info_kind: "ipvlan", info_data: { mode: "l3" } } },
      /is ipvlan, mode l3: expected/,
    ],
    [{ linkinfo: { info_kind: "wireguard" }, link_type: "none" }, /"eth0".*its type is wireguard/],
    [{ linkinfo: undefined, link_type: "ppp" }, /its type is ppp/],
  ];
  for (const [change, message] of cases) {
    assert.throws(() => parsePodNetwork("/n", `${link(change)}\n[]\n[]`, "[]"), message);
    const unused = link({ ...change, addr_info: [] });
    assert.deepEqual(parsePodNetwork("/n", `${unused}\n[]\n[]`, "[]").links, []);
    const off = link({ ...change, flags: [] });
    assert.deepEqual(parsePodNetwork("/n", `${off}\n[]\n[]`, "[]").links, []);
  }
  const l2 = link({ linkinfo: { info_kind: "ipvlan", info_data: { mode: "l2" } } });
  assert.equal(parsePodNetwork("/n", `${l2}\n[]\n[]`, "[]").links[0]?.kind, "ipvlan");
  const card = link({ linkinfo: undefined });
  assert.equal(parsePodNetwork("/n", `${card}\n[]\n[]`, "[]").links[0]?.kind, "");
});

Deno.test("the packet size of a route holds for its interface", () => {
  const routes = JSON.stringify([
    { dst: "default", gateway: "10.0.0.1", dev: "eth0", metrics: [{ mtu: 1400 }], flags: [] },
  ]);
  const network = parsePodNetwork("/n", `${link({})}\n${routes}\n[]`, "[]");
  assert.equal(network.interfaces[0]?.mtu, 1400);
  assert.equal(network.links[0]?.mtu, 1500);
});

Deno.test("an ingress qdisc that is there is seen", () => {
  for (const kind of ["ingress", "clsact"]) {
    const qdiscs = JSON.stringify([{ kind, dev: "eth0" }, { kind: "noqueue", dev: "eth0" }]);
    assert.equal(parsePodNetwork("/n", `${link({})}\n[]\n[]`, qdiscs).links[0]?.hasIngress, true);
  }
});

Deno.test("a namespace with nothing in it is a pod without a network", () => {
  const network = parsePodNetwork("/n", "[]\n\n\n", "");
  assert.deepEqual([network.interfaces, network.routes, network.links], [[], [], []]);
  assert.equal(network.sysctls, undefined);
});

Deno.test("text that is not ip's is told, with its beginning", () => {
  assert.throws(
    () => parsePodNetwork("/n", "Object not found", "[]"),
    /cannot read the pod's network "\/n": expected JSON of ip or tc, found "Object not found"/,
  );
});
