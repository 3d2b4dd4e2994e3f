/**
 * Cases about the network of a pod: the host's, or one of its own that CNI made.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import { freePort, httpGet } from "../support/http.ts";
import { waitFor } from "../support/wait.ts";
import type { Target } from "./target.ts";

/** What a server says; one that has said that it listens may still need a moment. */
function answer(hostname: string, port: number): Promise<string> {
  return waitFor(`an answer from ${hostname}:${port}`, () => httpGet(hostname, port));
}

/** Registers the cases. */
export function networkCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, abilities } = target;
  const server = (port: number, id: string) => ({
    image,
    command: [path("server")],
    args: [String(port)],
    env: { ID: id },
  });

  if (abilities.hostNetwork) {
    test("a server in a pod on the host's network answers at the host's address", async ({ cri }) => {
      const port = freePort();
      await using pod = await cri.runPod({ handler, network: "host" });
      const container = await pod.startContainer(server(port, "host"));
      await container.printed(`listening on ${port}`);
      assert.equal(await answer("127.0.0.1", port), "hello from host\n");
      await container.stop(0);
      await assert.rejects(httpGet("127.0.0.1", port));
    });
  } else {
    test("a pod on the host's network is refused with a clear message", async ({ cri }) => {
      await assert.rejects(cri.runPod({ handler, network: "host" }), /host's? network/i);
      await using pod = await cri.runPod({ handler });
      await pod.runContainer({ image, command: [path("hello")] });
    });
  }

  test("a server in a pod of its own answers at the pod's address and nowhere else", async ({ cri }) => {
    const port = freePort();
    await using pod = await cri.runPod({ handler, network: "pod" });
    const ip = await pod.ip();
    assert.match(ip, /^10\./);
    const container = await pod.startContainer(server(port, "pod"));
    await container.printed(`listening on ${port}`);
    assert.equal(await answer(ip, port), "hello from pod\n");
    await assert.rejects(httpGet("127.0.0.1", port));
  });

  test("two pods serve at the same port, each at its own address", async ({ cri }) => {
    await using first = await cri.runPod({ handler, network: "pod" });
    await using second = await cri.runPod({ handler, network: "pod" });
    for (const [pod, id] of [[first, "first"], [second, "second"]] as const) {
      const container = await pod.startContainer(server(8080, id));
      await container.printed("listening on 8080");
    }
    assert.notEqual(await first.ip(), await second.ip());
    assert.equal(await answer(await first.ip(), 8080), "hello from first\n");
    assert.equal(await answer(await second.ip(), 8080), "hello from second\n");
  });

  test("two containers of a pod share its address", async ({ cri }) => {
    await using pod = await cri.runPod({ handler, network: "pod" });
    for (const [port, id] of [[8081, "one"], [8082, "two"]] as const) {
      const container = await pod.startContainer({ ...server(port, id), name: id });
      await container.printed(`listening on ${port}`);
    }
    assert.equal(await answer(await pod.ip(), 8081), "hello from one\n");
    assert.equal(await answer(await pod.ip(), 8082), "hello from two\n");
  });
}
