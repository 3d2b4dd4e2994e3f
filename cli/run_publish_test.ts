import assert from "node:assert/strict";
import { checkHostPorts, parsePublish } from "./run_publish.ts";

Deno.test("--publish takes an address, two ports and a protocol", () => {
  const port = { address: "0.0.0.0", hostPort: 8080, containerPort: 80, protocol: "tcp" };
  assert.deepEqual(parsePublish("8080:80"), port);
  assert.deepEqual(parsePublish("8080:80/tcp"), port);
  assert.deepEqual(parsePublish("127.0.0.1:5353:53/udp"), {
    address: "127.0.0.1",
    hostPort: 5353,
    containerPort: 53,
    protocol: "udp",
  });
});

Deno.test("--publish says what is wrong with a value", () => {
  const wrong = [
    "",
    "80",
    "0:80",
    "80:0",
    "65536:80",
    "a:80",
    "80:80/sctp",
    "300.0.0.1:1:2",
    "1:2:3",
  ];
  for (const text of wrong) {
    assert.throws(
      () => parsePublish(text),
      { name: "UsageError", message: /Invalid --publish/ },
      text,
    );
  }
});

Deno.test("on the host's network, only a port of its own can be published", () => {
  const same = [parsePublish("80:80")];
  const other = [parsePublish("80:80"), parsePublish("8080:80")];
  checkHostPorts([], "none");
  checkHostPorts(same, "host");
  const wrong: [typeof same, string, RegExp][] = [
    [same, "none", /no network: use --net host/],
    [same, "/run/netns/a", /"\/run\/netns\/a" are for whoever made it/],
    [other, "host", /Cannot publish 8080:80: on the host's network/],
  ];
  for (const [ports, net, message] of wrong) {
    assert.throws(() => checkHostPorts(ports, net), { name: "UsageError", message });
  }
});
