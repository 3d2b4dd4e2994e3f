import assert from "node:assert/strict";
import { AgentError } from "../protocol/agent_error.ts";
import { linkRequest, packRequests, parseAnswers } from "./netlink.ts";
import { type NetworkPlan, planRequests } from "./network.ts";

const DEVICES = [{ name: "eth0", index: 2 }, { name: "eth1", index: 3 }];
const ETH0 = {
  name: "eth0",
  device: 0,
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  addresses: ["10.0.0.5/24", "fd00::5/64"],
};

function plan(changes: Partial<NetworkPlan>): NetworkPlan {
  return { interfaces: [ETH0], routes: [], neighbours: [], ...changes };
}

/** Type, flags and the rest of a message, in hexadecimal. */
function show(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  assert.equal(view.getUint32(0, true), bytes.length);
  return [view.getUint16(4, true), view.getUint16(6, true).toString(16), bytes.slice(16).toHex()]
    .join(" ");
}

function refusal(code: string, message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof AgentError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

// Written down by hand from the structures of linux/rtnetlink.h; a real kernel takes them in `vm_test.ts`.
Deno.test("an interface becomes one change of the link and one request for each address", () => {
  const [link, first, second, ...more] = planRequests(plan({}), DEVICES, false);
  assert.ok(link !== undefined && first !== undefined && second !== undefined);
  assert.deepEqual(more, []);
  const ifinfo = "00000000" + "02000000" + "01000000" + "01000000";
  const name = "0900" + "0300" + "65746830" + "00000000";
  const mac = "0a00" + "0100" + "020000000001" + "0000";
  const mtu = "0800" + "0400" + "dc050000";
  assert.equal(show(link.bytes), `16 5 ${ifinfo}${name}${mac}${mtu}`);
  const local = "0800" + "0200" + "0a000005" + "0800" + "0100" + "0a000005";
  const broadcast = "0800" + "0400" + "0a0000ff";
  assert.equal(show(first.bytes), `20 505 02180000${"02000000"}${local}${broadcast}`);
  const ipv6 = `1400${"0200"}fd000000000000000000000000000005`;
  assert.equal(
    show(second.bytes),
    // Without detection of duplicates (IFA_F_NODAD).
    `20 505 0a400200${"02000000"}${ipv6}${ipv6.replace("14000200", "14000100")}`,
  );
});

Deno.test("a device that was switched on is not switched on again", () => {
  const changes = (isOn: boolean) => {
    const [link] = planRequests(plan({}), [{ name: "eth0", index: 2, isOn }], false);
    const bytes = link?.bytes ?? new Uint8Array();
    // The flags of struct ifinfomsg, and which of them change.
    return bytes.slice(24, 32).toHex();
  };
  assert.equal(changes(false), "01000000" + "01000000");
  assert.equal(changes(true), "00000000" + "00000000");
});

Deno.test("an interface gets the IPv6 address of the link that belongs to its MAC address", () => {
  const [, address, ...more] = planRequests(
    plan({ interfaces: [{ ...ETH0, mac: "02:11:22:33:44:55", addresses: [] }] }),
    DEVICES,
    true,
  );
  assert.deepEqual(more, []);
  assert.equal(
    address?.action(),
    'cannot give the interface "eth0" the address fe80::11:22ff:fe33:4455/64',
  );
  assert.match(show(address.bytes), /fe80000000000000001122fffe334455/);
});

Deno.test("routes have the scope, source and metric that were asked for", () => {
  const routes = [
    { destination: "default", family: "inet", gateway: "10.0.0.1", interface: "eth0" },
    { destination: "169.254.1.1/32", family: "inet", interface: "eth0" },
    {
      destination: "10.7.0.0/16",
      family: "inet",
      gateway: "169.254.1.1",
      interface: "eth0",
      source: "10.0.0.5",
      metric: 50,
      onlink: true,
    },
    { destination: "default", family: "inet", gateway: "fe80::1", interface: "eth0" },
  ] as const;
  const requests = planRequests(plan({ routes }), DEVICES, false).slice(3).map(({ bytes }) =>
    show(bytes)
  );
  const out = "0800" + "0400" + "02000000";
  assert.deepEqual(requests, [
    // family, lengths, tos, table main, protocol boot, scope global, unicast, no flags.
    `24 505 02000000fe030001${"00000000"}${"0800" + "0500" + "0a000001"}${out}`,
    // On the link (253).
    `24 505 02200000fe03fd01${"00000000"}${"0800" + "0100" + "a9fe0101"}${out}`,
    `24 505 02100000fe030001${"04000000"}${"0800" + "0100" + "0a070000"}` +
    `${"0800" + "0500" + "a9fe0101"}${out}${"0800" + "0700" + "0a000005"}${
      "0800" + "0600" + "32000000"
    }`,
    // An IPv4 route by way of an IPv6 neighbour.
    `24 505 02000000fe030001${"00000000"}${
      "1600" + "1200" + "0a00"
    }fe800000000000000000000000000001` +
    `0000${out}`,
  ]);
});

Deno.test("a neighbour is permanent", () => {
  const neighbours = [{ address: "169.254.1.1", mac: "ee:ee:ee:ee:ee:ee", interface: "eth0" }];
  const [request] = planRequests(plan({ neighbours }), DEVICES, false).slice(3);
  assert.equal(
    request === undefined ? "" : show(request.bytes),
    `28 505 02000000${"02000000"}80000000${"0800" + "0100" + "a9fe0101"}` +
      `${"0a00" + "0200" + "eeeeeeeeeeee" + "0000"}`,
  );
});

Deno.test("what cannot be set up is refused before anything is sent", () => {
  const refuse = (changes: Partial<NetworkPlan>, code: string, message: RegExp) =>
    assert.throws(() => planRequests(plan(changes), DEVICES, false), refusal(code, message));
  refuse({ interfaces: [{ ...ETH0, device: 2 }] }, "NotFound", /"eth0".*none with the number 2/);
  refuse({ interfaces: [{ ...ETH0, name: "a/b" }] }, "InvalidArgument", /"a\/b"/);
  refuse({ interfaces: [{ ...ETH0, name: "x".repeat(16) }] }, "InvalidArgument", /1 to 15/);
  refuse({ interfaces: [ETH0, { ...ETH0, device: 1 }] }, "InvalidArgument", /two interfaces/);
  refuse({ interfaces: [{ ...ETH0, mac: "zz" }] }, "InvalidArgument", /"zz": a MAC address/);
  const route = { destination: "default", family: "inet", interface: "eth7" } as const;
  refuse({ routes: [route] }, "InvalidArgument", /default on "eth7".*no interface of that name/);
  refuse({ routes: [{ ...route, interface: "eth0", scope: "odd" }] }, "InvalidArgument", /"odd"/);
  refuse(
    { routes: [{ ...route, interface: "eth0", destination: "fd00::/8" }] },
    "InvalidArgument",
    /not of the family inet/,
  );
});

Deno.test("requests travel together and answers find theirs", () => {
  const requests = ["a", "bb"].map((name) =>
    linkRequest(5, { name, up: false }, () => `cannot ${name}`)
  );
  const packed = packRequests(requests);
  const view = new DataView(packed.buffer);
  const firstLength = view.getUint32(0, true);
  assert.equal(view.getUint32(8, true), 1);
  assert.equal(view.getUint32(firstLength + 8, true), 2);
  assert.equal(packed.length, firstLength + view.getUint32(firstLength, true));

  const answers = new DataView(new ArrayBuffer(64));
  for (const [offset, sequence, errno] of [[0, 2, -17], [20, 1, 0]] as const) {
    answers.setUint32(offset, 20, true);
    answers.setUint16(offset + 4, 2, true);
    answers.setUint32(offset + 8, sequence, true);
    answers.setInt32(offset + 16, errno, true);
  }
  // A message that says to be longer than what came.
  answers.setUint32(40, 400, true);
  assert.deepEqual(parseAnswers(answers.buffer, 64), [
    { sequence: 2, errno: 17 },
    { sequence: 1, errno: 0 },
  ]);
});
