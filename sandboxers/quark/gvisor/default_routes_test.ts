import assert from "node:assert/strict";
import { surplusDefaultRoutes } from "./default_routes.ts";

/** A route as `ip -j -d route show table all` has it. */
function route(dev: string, metric: number | undefined, more: Record<string, unknown> = {}) {
  return { type: "unicast", dst: "default", dev, scope: "global", flags: [], metric, ...more };
}

Deno.test("of default routes the one of the lowest metric is left, for IPv4 and IPv6 each", () => {
  const routes = [
    route("eth0", 200, { gateway: "10.0.0.1" }),
    route("eth1", undefined, { gateway: "10.1.0.1" }),
    route("eth2", 100, { scope: "link" }),
    { type: "unicast", dst: "10.0.0.0/24", dev: "eth0", flags: [] },
    route("eth0", 1024, { gateway: "fe80::1", pref: "medium" }),
    route("eth1", 2048, { pref: "medium" }),
  ];
  assert.deepEqual(surplusDefaultRoutes(JSON.stringify(routes)), [
    "route del 0.0.0.0/0 dev eth2 metric 100",
    "route del 0.0.0.0/0 via 10.0.0.1 dev eth0 metric 200",
    "route del ::/0 dev eth1 metric 2048",
  ]);
});

Deno.test("one default route is left alone, and so is what is none of the pod's own", () => {
  const routes = [
    route("eth0", 5, { gateway: "10.0.0.1" }),
    route("eth1", 6, { gateway: "10.1.0.1", table: "7" }),
    { type: "unreachable", dst: "default", dev: "lo", metric: 4294967295, pref: "medium" },
    route("a b", 7, { gateway: "10.2.0.1" }),
    route("eth2", 8, { gateway: "10.3.0.1; reboot" }),
    null,
  ];
  assert.deepEqual(surplusDefaultRoutes(JSON.stringify(routes)), []);
  for (const text of ["", "{", "7", "{}"]) assert.deepEqual(surplusDefaultRoutes(text), []);
});
