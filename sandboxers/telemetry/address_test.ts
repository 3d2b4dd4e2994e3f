import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { metricsAddressText, parseMetricsAddress } from "./address.ts";

Deno.test("addresses are read and written alike", () => {
  for (const text of ["unix:/run/a.sock", "127.0.0.1:9741", "[::1]:1", "none"]) {
    assert.equal(metricsAddressText(parseMetricsAddress("--metrics", text)), text);
  }
  assert.deepEqual(parseMetricsAddress("--metrics", "127.0.0.1:65535"), {
    kind: "tcp",
    hostname: "127.0.0.1",
    port: 65_535,
  });
});

Deno.test("whatever is not loopback is refused, and so is what nobody can listen at", () => {
  const bad = [
    ...["", "0.0.0.0:9741", ":9741", "*:9741", "[::]:9741", "10.0.0.1:80", "localhost:9741"],
    ...["127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.2:9", "http://127.0.0.1:9"],
    ...["unix:", "unix:a.sock", "unix:/run/", "unix:/run/../etc/x", `unix:/${"x".repeat(107)}`],
  ];
  for (const text of bad) {
    assert.throws(
      () => parseMetricsAddress("--metrics", text),
      (error) =>
        error instanceof SandboxError && error.code === "InvalidArgument" &&
        error.message.startsWith(`invalid --metrics ${JSON.stringify(text)}: expected `),
      text,
    );
  }
});
