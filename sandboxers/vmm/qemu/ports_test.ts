import assert from "node:assert/strict";
import type { PublishedPort } from "../../lifecycle/spec.ts";
import { publishPorts } from "./ports.ts";
import type { QmpClient } from "./qmp.ts";

const PORT: PublishedPort = {
  address: "127.0.0.1",
  hostPort: 8080,
  containerPort: 80,
  protocol: "tcp",
};

/** Publishes ports with a QEMU that always gives the same answer; tells what it was asked. */
async function publish(ports: readonly PublishedPort[], answer: string): Promise<unknown[]> {
  const asked: unknown[] = [];
  const execute = (...call: unknown[]) => {
    asked.push(call[1]);
    return Promise.resolve(answer);
  };
  const qmp: Pick<QmpClient, "execute"> = { execute: execute as QmpClient["execute"] };
  await publishPorts(qmp, ports, new AbortController().signal);
  return asked;
}

Deno.test("each port is a rule of QEMU's own network", async () => {
  const udp = { ...PORT, address: "0.0.0.0", protocol: "udp" } as const;
  assert.deepEqual(await publish([PORT, udp], ""), [
    { "command-line": "hostfwd_add net0 tcp:127.0.0.1:8080-:80" },
    { "command-line": "hostfwd_add net0 udp:0.0.0.0:8080-:80" },
  ]);
});

Deno.test("a port that cannot be had is told of with QEMU's words and a hint", async () => {
  const answer = "Could not set up host forwarding rule\r\n";
  const message = /cannot publish port 8080 of 127\.0\.0\.1: Could not set up .* rule: is it taken/;
  await assert.rejects(publish([PORT], answer), { code: "FailedPrecondition", message });
  await assert.rejects(publish([{ ...PORT, hostPort: 80 }], answer), { message: /below 1024/ });
});

Deno.test("what is no port never becomes a command", async () => {
  const wrong: Partial<PublishedPort>[] = [
    { address: "::1" },
    { address: "1.2.3.4 quit" },
    { hostPort: 0 },
    { hostPort: 65_536 },
    { containerPort: 1.5 },
  ];
  for (const change of wrong) {
    await assert.rejects(publish([{ ...PORT, ...change }], ""), { code: "InvalidArgument" });
  }
});
