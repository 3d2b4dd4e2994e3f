import assert from "node:assert/strict";
import { AgentError } from "../protocol/agent_error.ts";
import { broadcastOf, formatPrefix, parseAddress, parseMac, parsePrefix } from "./ip_address.ts";
import { AF_INET, AF_INET6 } from "./linux.ts";

function hex(bytes: Uint8Array | undefined): string | undefined {
  return bytes?.toHex();
}

Deno.test("addresses of both families are read", () => {
  assert.deepEqual(parseAddress("10.0.2.255"), {
    family: AF_INET,
    bytes: Uint8Array.of(10, 0, 2, 255),
  });
  const read: readonly (readonly [string, string])[] = [
    ["::", "00".repeat(16)],
    ["::1", `${"00".repeat(15)}01`],
    ["fe80::1:2", "fe800000000000000000000000010002"],
    ["1:2:3:4:5:6:7:8", "00010002000300040005000600070008"],
    ["fd00::", `fd00${"00".repeat(14)}`],
    ["::ffff:10.1.2.3", "00000000000000000000ffff0a010203"],
  ];
  for (const [text, bytes] of read) {
    const address = parseAddress(text);
    assert.deepEqual([address.family, hex(address.bytes)], [AF_INET6, bytes], text);
  }
});

Deno.test("prefixes are read with and without a length", () => {
  assert.equal(parsePrefix("10.0.0.1/8").prefixLength, 8);
  assert.equal(parsePrefix("10.0.0.1").prefixLength, 32);
  assert.equal(parsePrefix("fd00::1/64").prefixLength, 64);
  assert.equal(parsePrefix("fd00::1").prefixLength, 128);
});

Deno.test("addresses are written as people know them", () => {
  for (const text of ["10.0.0.1/8", "fd00::1/64", "::/0", "1:2:3:4:5:6:7:8/128", "fe80::/10"]) {
    assert.equal(formatPrefix(parsePrefix(text)), text);
  }
});

Deno.test("what is no address is refused and named", () => {
  const wrong = [
    "",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.1.2",
    "10.0.0.1.",
    ".10.0.0",
    "10..0.1",
    "a.b.c.d",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1::2::3",
    "12345::",
    "::1.2.3",
    "1:2:3:4:5:6:7::8:9",
  ];
  for (const text of wrong) {
    assert.throws(
      () => parseAddress(text),
      (error) =>
        error instanceof AgentError && error.code === "InvalidArgument" &&
        error.message.includes(`"${text}"`),
      text,
    );
  }
  for (const text of ["10.0.0.1/33", "10.0.0.1/", "10.0.0.1/-1", "::1/129", "10.0.0.1/1e1"]) {
    assert.throws(() => parsePrefix(text), AgentError, text);
  }
});

Deno.test("only IPv4 networks with room have a broadcast address", () => {
  const broadcast = (text: string) => hex(broadcastOf(parsePrefix(text)));
  assert.equal(broadcast("10.1.2.3/24"), "0a0102ff");
  assert.equal(broadcast("10.1.2.3/20"), "0a010fff");
  assert.equal(broadcast("10.1.2.3/0"), "ffffffff");
  assert.equal(broadcast("10.1.2.3/31"), undefined);
  assert.equal(broadcast("10.1.2.3/32"), undefined);
  assert.equal(broadcast("fd00::1/64"), undefined);
});

Deno.test("a MAC address has six bytes", () => {
  assert.equal(hex(parseMac("02:00:0A:ff:00:01")), "02000aff0001");
  for (
    const text of ["", "02:00:00:00:00", "02:00:00:00:00:0g", "02:00:00-00:00:01", "020000000001"]
  ) {
    assert.throws(() => parseMac(text), AgentError, text);
  }
});
