/**
 * The management API of a running wasm sandboxer, beside a real containerd: what it shows of pods that
 * containerd made, and what containerd hears when they are ended through it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  ProcessState,
  type Sandbox,
  SandboxState,
} from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { ContainerState, PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { ManagementClient } from "../sandboxers/client/management_client.ts";
import { refused } from "../sandboxers/lifecycle/testing/refused.ts";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import type { Container, Cri, Pod } from "./support/cri.ts";
import { waitFor } from "./support/wait.ts";

const test = bedTests(wasmTarget.bed, wasmTarget.importImages);

function clientOf(bed: Bed): ManagementClient {
  return new ManagementClient(bed.sandboxer("wasm").paths.socketPath);
}

/** A pod with a guest that sleeps. */
async function sleepingPod(cri: Cri): Promise<{ readonly pod: Pod; readonly main: Container }> {
  const pod = await cri.runPod({ handler: wasmTarget.handler, labels: { app: "sleep" } });
  const env = { PASSWORD: "hidden" };
  const command = ["/sleep.wasm"];
  const main = await pod.startContainer({ name: "main", image: WASM_IMAGE, command, env });
  await main.printed("sleeping");
  return { pod, main };
}

test("pods that containerd made are listed, found, measured and told of", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const info = await client.info();
  assert.equal(info.kind, "wasm");
  assert.equal(info.stateDir, bed.sandboxer("wasm").paths.stateDirectory);
  const { pod, main } = await sleepingPod(cri);
  await using _ = pod;

  const listed = (await client.list({ labels: { app: "sleep" } })).find(({ id }) => id === pod.id);
  assert.equal(listed?.state, SandboxState.READY);
  assert.equal(listed.namespace, "k8s.io");
  assert.equal(listed.managed, false);
  assert.equal(listed.containers[0]?.name, "main");
  assert.equal(listed.containers[0].image, WASM_IMAGE);
  assert.equal(listed.containers[0].state, ProcessState.RUNNING);
  assert.deepEqual(listed.containers[0].args, ["/sleep.wasm"]);

  for (const target of [pod.id, pod.id.slice(0, 20), listed.name, main.id, `${pod.id}/main`]) {
    const { sandbox, detailJson } = await client.get({ target });
    assert.equal(sandbox?.id, pod.id, target);
    assert.ok(!detailJson.includes("hidden"));
  }
  await refused(
    client.get({ target: "nobody" }),
    "NotFound",
    /"nobody" found: there are .*sandbox/,
  );

  const [stats] = await Array.fromAsync(client.stats({ sandboxIds: [pod.id] }));
  assert.ok((stats?.sandboxes[0]?.usage?.memoryBytes ?? 0n) > 0n);
  assert.equal(stats?.sandboxes[0]?.containers[0]?.containerId, main.id);

  const since = { seconds: 0n };
  const events = client.events({ since, noFollow: true, sandboxId: pod.id });
  assert.deepEqual((await Array.fromAsync(events)).map(({ type }) => type), [
    "sandbox-created",
    "sandbox-started",
    "container-created",
    "process-started",
  ]);
});

test("containerd hears of a pod that is stopped through the API", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const { pod, main } = await sleepingPod(cri);
  await using _ = pod;
  const waiting = client.wait({ target: main.id });
  await refused(
    client.remove({ target: pod.id }),
    "FailedPrecondition",
    /containerd made it.*crictl/,
  );
  await client.stop({ target: pod.id, grace: durationFromMs(0) });
  assert.equal((await waiting).status, 137);
  await waitFor("containerd to take the pod for stopped", async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  });
  assert.equal((await main.exited()).exitCode, 137);
  assert.equal((await client.get({ target: pod.id })).sandbox?.state, SandboxState.STOPPED);
});

test("containerd can remove a pod that was removed through the API", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const { pod } = await sleepingPod(cri);
  await client.remove({ target: pod.id, force: true });
  await refused(client.get({ target: pod.id }), "NotFound", /./);
  await waitFor("containerd to take the pod for stopped", async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  });
  await pod.stop();
  await pod.remove();
});

test("a kill through the API is an exit like any other", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const { pod, main } = await sleepingPod(cri);
  await using _ = pod;
  await client.kill({ target: `${pod.id}/main`, signal: 9 });
  assert.equal((await main.exited()).exitCode, 137);
  assert.equal(await main.state(), ContainerState[ContainerState.CONTAINER_EXITED].slice(10));
  assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
});

test("200 watchers and one that does not read hold nobody up", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const abort = new AbortController();
  const streams = Array.from({ length: 200 }, () => client.watch({ signal: abort.signal }));
  // One in a connection of its own that takes what comes first and then nothing.
  using stuck = clientOf(bed);
  await stuck.watch({ signal: abort.signal }).next();
  const stuckEvents = stuck.events({ since: { seconds: 0n } }, { signal: abort.signal });
  await stuckEvents.next();
  const { pod } = await sleepingPod(cri);
  let told = 0;
  const seen = streams.map(async (stream) => {
    let found = false;
    for await (const { sandboxes, removedIds } of stream) {
      const isReady = ({ id, state }: Sandbox) => id === pod.id && state === SandboxState.READY;
      if (!found && sandboxes.some(isReady)) {
        found = true;
        told++;
      }
      if (removedIds.includes(pod.id)) return found;
    }
    return false;
  });
  await waitFor("all watchers to be told of the pod", () => Promise.resolve(told === 200));
  await pod[Symbol.asyncDispose]();
  assert.deepEqual(new Set(await Promise.all(seen)), new Set([true]));
  abort.abort();
});

test("garbage on the socket disturbs neither containerd nor clients", async ({ bed, cri }) => {
  using client = clientOf(bed);
  const watch = client.watch();
  await watch.next();
  for (
    const text of ["GET / HTTP/1.1\r\n\r\n", "\0".repeat(4096), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
  ) {
    const path = bed.sandboxer("wasm").paths.socketPath;
    using connection = await Deno.connect({ transport: "unix", path });
    await connection.write(new TextEncoder().encode(`${text}${"\xff".repeat(1000)}`)).catch(() =>
      0
    );
  }
  await using pod = await cri.runPod({ handler: wasmTarget.handler });
  assert.ok((await client.list()).some(({ id }) => id === pod.id));
  await watch.return(undefined);
});

test("streams end with Unavailable when the sandboxer restarts, and can be opened again", async ({ bed, cri }) => {
  using client = clientOf(bed);
  await using pod = await cri.runPod({ handler: wasmTarget.handler });
  const watch = client.watch();
  await watch.next();
  const events = client.events();
  const ends = [
    refused(readAll(watch), "Unavailable", /./),
    refused(readAll(events), "Unavailable", /./),
  ];
  await bed.sandboxer("wasm").restart();
  await Promise.all(ends);
  await client.ready(10_000);
  const again = client.watch();
  const { value } = await again.next();
  assert.ok(value?.sandboxes.some(({ id }: Sandbox) => id === pod.id));
  await again.return(undefined);
});

async function readAll(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}

test("the level of the log changes while it runs", async ({ bed }) => {
  using client = clientOf(bed);
  const { process } = bed.sandboxer("wasm");
  const lines = async () => (await process.log()).match(/ call .*method=Info/g)?.length ?? 0;
  await client.setLogLevel({ level: "error" });
  const before = await lines();
  await client.info();
  assert.equal(await lines(), before);
  assert.equal((await client.setLogLevel({ level: "debug" })).previous, "error");
  await client.info();
  await waitFor("the call to be logged", async () => await lines() === before + 1);
});

test("the documented program runs as it is written", async ({ bed, cri }) => {
  await using pod = await cri.runPod({ handler: wasmTarget.handler });
  const document = await Deno.readTextFile(new URL("../docs/management.md", import.meta.url));
  const code = /<!-- management-example -->\s*```ts\n([^]*?)```/.exec(document)?.[1];
  assert.ok(code !== undefined);
  const program = `${bed.directory}/example.ts`;
  await Deno.writeTextFile(program, code);
  const { socketPath } = bed.sandboxer("wasm").paths;
  const config = new URL("../deno.json", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      `--config=${config}`,
      `--allow-net=unix:${socketPath}`,
      `--allow-read=${socketPath}`,
      `--allow-write=${socketPath}`,
      "--allow-env",
      program,
    ],
    env: { QUASAUR_ADDRESS: socketPath, NO_COLOR: "1" },
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  const text = new TextDecoder().decode(stdout);
  assert.match(text, / ready \[\]$/m);
  assert.match(text, new RegExp(`^sandbox-started ${pod.id}$`, "m"));
});
