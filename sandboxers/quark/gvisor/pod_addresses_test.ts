import assert from "node:assert/strict";
import { assertFails, launcher, run } from "../../host/testing/fixture.ts";
import { giveBackAddresses, parseAddresses, readyInterfaces } from "./pod_addresses.ts";

Deno.test("the addresses of interfaces that are up count, but for loopback and link-local ones", () => {
  const address = (local: string, prefixlen: number, scope = "global") => ({
    local,
    prefixlen,
    scope,
  });
  const links = [
    { ifname: "lo", flags: ["LOOPBACK", "UP"], addr_info: [address("10.9.9.9", 32)] },
    {
      ifname: "eth0",
      flags: ["BROADCAST", "UP"],
      addr_info: [address("10.0.0.2", 24), address("fd00::2", 64), address("fe80::1", 64, "link")],
    },
    { ifname: "eth1", flags: ["BROADCAST"], addr_info: [address("10.0.1.2", 24)] },
    { ifname: "a b", flags: ["UP"], addr_info: [address("10.0.2.2", 24)] },
    { ifname: "eth2", flags: ["UP"] },
  ];
  assert.deepEqual(parseAddresses(JSON.stringify(links)), [
    { device: "eth0", address: "10.0.0.2/24" },
    { device: "eth0", address: "fd00::2/64" },
  ]);
  for (const text of ["", "{", "null", "{}", "[7]"]) assert.deepEqual(parseAddresses(text), []);
});

/** So that an IPv6 address is there at once. */
function nodad(address: string): string[] {
  return address.includes(":") ? ["nodad"] : [];
}

Deno.test("addresses that were taken off an interface are put back, and nothing else is touched", async () => {
  const name = `qt${crypto.randomUUID().slice(0, 8)}`;
  const directory = await Deno.makeTempDir({ prefix: "quasaur-addresses-test-" });
  const spec = { id: "a", network: { kind: "namespace", path: `/run/netns/${name}` } } as const;
  const addresses = async () => parseAddresses(await run("ip", "-n", name, "-j", "addr", "show"));
  await run("ip", "netns", "add", name);
  try {
    await run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
    for (const device of ["eth0", "eth1"]) await run("ip", "-n", name, "link", "set", device, "up");
    await readyInterfaces(launcher, spec, directory);
    await giveBackAddresses(launcher, directory);
    assert.deepEqual(await addresses(), []);
    for (const address of ["10.77.0.2/24", "fd77::2/64"]) {
      await run("ip", "-n", name, "addr", "add", address, "dev", "eth0", ...nodad(address));
    }
    const before = await addresses();
    assert.equal(before.length, 2);
    await readyInterfaces(launcher, spec, directory);
    await run("ip", "-n", name, "addr", "flush", "dev", "eth0", "scope", "global");
    assert.deepEqual(await addresses(), []);
    await giveBackAddresses(launcher, directory);
    assert.deepEqual(await addresses(), before);
    // Once only, and where they are there already nothing fails.
    await giveBackAddresses(launcher, directory);
    await readyInterfaces(launcher, spec, directory);
    await giveBackAddresses(launcher, directory);
    assert.deepEqual(await addresses(), before);
  } finally {
    await run("ip", "netns", "del", name);
  }
  // The namespace is gone.
  await Deno.writeTextFile(
    `${directory}/addresses.json`,
    JSON.stringify({
      netns: spec.network.path,
      addresses: [{ device: "eth0", address: "10.77.0.2/24" }],
    }),
  );
  await giveBackAddresses(launcher, directory);
  await Deno.writeTextFile(`${directory}/addresses.json`, "{");
  await giveBackAddresses(launcher, directory);
  await assertFails(readyInterfaces(launcher, spec, directory), "NotFound", /network namespace/);
  await readyInterfaces(launcher, { id: "b", network: { kind: "none" } }, directory);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("of several default routes a pod keeps the one that Linux would use", async () => {
  const name = `qt${crypto.randomUUID().slice(0, 8)}`;
  const directory = await Deno.makeTempDir({ prefix: "quasaur-addresses-test-" });
  const spec = { id: "a", network: { kind: "namespace", path: `/run/netns/${name}` } } as const;
  const ip = (...words: string[]) => run("ip", "-n", name, ...words);
  await run("ip", "netns", "add", name);
  try {
    await ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
    for (const [index, metric] of ["200", "100"].entries()) {
      const device = `eth${index}`;
      await ip("link", "set", device, "up");
      await ip("addr", "add", `10.77.${index}.2/24`, "dev", device);
      await ip("addr", "add", `fd77:${index}::2/64`, "dev", device, "nodad");
      await ip("route", "add", "default", "via", `10.77.${index}.1`, "metric", metric);
      await ip("-6", "route", "add", "default", "via", `fd77:${index}::1`, "metric", metric);
    }
    await readyInterfaces(launcher, spec, directory);
    assert.match(
      await ip("route", "show", "default"),
      /^default via 10\.77\.1\.1 dev eth1 [^\n]*\n$/,
    );
    assert.match(
      await ip("-6", "route", "show", "default"),
      /^default via fd77:1::1 dev eth1 [^\n]*\n$/,
    );
    await readyInterfaces(launcher, spec, directory);
    assert.match(await ip("route", "show", "default"), /^default via 10\.77\.1\.1/);
  } finally {
    await run("ip", "netns", "del", name);
    await Deno.remove(directory, { recursive: true });
  }
});
