/**
 * The command line over a running sandboxer that containerd made pods with: what it shows of them, and
 * what it does to them, by its real output.
 *
 * @module
 */

import assert from "node:assert/strict";
import { ContainerState } from "../proto/gen/runtime/v1/api_pb.ts";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import type { Container, Cri, Pod } from "./support/cri.ts";
import {
  AtTerminal,
  type Ended,
  QUASAUR,
  quasaur,
  startQuasaur,
} from "./support/quasaur_command.ts";

const test = bedTests(wasmTarget.bed, wasmTarget.importImages);

function socketOf(bed: Bed): string {
  return bed.sandboxer("wasm").paths.socketPath;
}

async function at(bed: Bed, ...args: string[]): Promise<Ended> {
  return await quasaur(["--address", socketOf(bed), ...args]);
}

/** Runs a command that does what it is to. */
async function done(bed: Bed, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await at(bed, ...args);
  assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
  assert.equal(stderr, "");
  return stdout;
}

async function sleepingPod(
  cri: Cri,
  name: string,
): Promise<{ readonly pod: Pod; readonly main: Container }> {
  const pod = await cri.runPod({ handler: wasmTarget.handler, name });
  const command = ["/sleep.wasm"];
  const main = await pod.startContainer({ name: "main", image: WASM_IMAGE, command });
  await main.printed("sleeping");
  return { pod, main };
}

test("pods of containerd are shown, measured, looked into and told of", async ({ bed, cri }) => {
  const { pod, main } = await sleepingPod(cri, "shown");
  await using _ = pod;
  const [head, line, ...more] = (await done(bed, "ps", "--filter", "name=shown")).split("\n");
  assert.match(head ?? "", /^ID +NAME +KIND +STATE +CONTAINERS +IMAGE +CREATED +NAMESPACE$/);
  assert.match(line ?? "", / default\/shown +wasm +ready +1 running .* k8s\.io$/);
  assert.deepEqual(more, [""]);
  assert.equal(await done(bed, "ps", "-q", "--filter", "name=shown"), `${pod.id}\n`);
  const [json] = JSON.parse(await done(bed, "ps", "--json", "--filter", "name=shown"));
  assert.deepEqual([json.id, json.containers[0].id], [pod.id, main.id]);
  const [row] = (await done(bed, "stats", "--no-stream", "shown")).trim().split("\n").slice(1);
  assert.match(row ?? "", /default\/shown +wasm +\d+\.\d\d% +\d.*B /);
  const [detail] = JSON.parse(await done(bed, "inspect", main.id.slice(0, 12)));
  assert.equal(detail.id, main.id);
  const events = await done(bed, "events", "--filter", `sandbox=${pod.id}`);
  assert.match(events, /Z sandbox-created namespace=k8s\.io sandbox=.*\n[^]* process-started /);
});

test("a command runs in a pod of containerd, with its streams and its exit code", async ({ bed, cri }) => {
  const { pod } = await sleepingPod(cri, "entered");
  await using _ = pod;
  assert.equal(await done(bed, "exec", "entered", "/hello.wasm"), "hello from wasm\n");
  const args = [
    "--address",
    socketOf(bed),
    "exec",
    "-i",
    "default/entered/main",
    "--",
    "/cat.wasm",
  ];
  assert.equal((await quasaur(args, "to and fro\n")).stdout, "to and fro\n");
  const missing = await at(bed, "exec", "entered", "/nowhere.wasm");
  assert.equal(missing.code, 127);
  assert.match(missing.stderr, /^quasaur: .*"\/nowhere\.wasm".*\n$/);
  const trap = await at(bed, "exec", "entered", "/trap.wasm");
  assert.equal(trap.code, 134);
});

test("what containerd holds is refused, with the command that has it", async ({ bed, cri }) => {
  const { pod, main } = await sleepingPod(cri, "held");
  await using _ = pod;
  const [logs, attach] = await Promise.all([at(bed, "logs", "held"), at(bed, "attach", "held")]);
  assert.equal(logs.code, 1);
  assert.match(logs.stderr, new RegExp(`crictl logs ${main.id}`));
  assert.equal(attach.code, 125);
  assert.match(attach.stderr, /crictl attach/);
});

test("pods of containerd are paused, resumed, signalled and stopped", async ({ bed, cri }) => {
  const { pod, main } = await sleepingPod(cri, "changed");
  await using _ = pod;
  assert.equal(await done(bed, "pause", "changed"), "changed\n");
  assert.match(await done(bed, "ps", "--filter", "name=changed"), / 1 paused /);
  assert.equal(await done(bed, "resume", "--quiet", "changed"), "");
  assert.equal(await done(bed, "kill", "-s", "TERM", "changed"), "changed\n");
  assert.equal((await main.exited()).state, ContainerState.CONTAINER_EXITED);
  const both = await at(bed, "stop", "-t", "1", "changed", "nobody");
  assert.equal(both.code, 1);
  assert.equal(both.stdout, "changed\n");
  assert.match(both.stderr, /no sandbox or container "nobody" found: .*\n/);
  assert.match(await done(bed, "ps", "-a", "--filter", "name=changed"), / stopped /);
});

test("events are followed as they happen", async ({ bed, cri }) => {
  const child = startQuasaur([
    ...["--address", socketOf(bed), "events", "--follow", "--json"],
    ...["--filter", "type=sandbox-started"],
  ]);
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  // A pod for each look, until one comes that was made after it had begun to listen.
  const first = lines.read();
  const ids: string[] = [];
  let read: ReadableStreamReadResult<string> | undefined;
  for (let tries = 0; tries < 50 && read === undefined; tries++) {
    const pod = await cri.runPod({ handler: wasmTarget.handler });
    ids.push(pod.id);
    await pod.remove();
    const pause = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 100));
    read = await Promise.race([first, pause]);
  }
  const event = JSON.parse((read?.value ?? "").split("\n")[0] ?? "");
  assert.ok(ids.includes(event.sandbox) && event.type === "sandbox-started");
  child.kill("SIGTERM");
  await lines.cancel();
  await Promise.all([child.stdin.abort().catch(() => undefined), child.stderr.cancel()]);
  await child.status;
});

test("a terminal gets colours and a table that is drawn anew; NO_COLOR takes them away", async ({ bed, cri }) => {
  const { pod } = await sleepingPod(cri, "drawn");
  await using _ = pod;
  const env = { QUASAUR_ADDRESS: socketOf(bed) };
  await using coloured = new AtTerminal("quasaur ps; quasaur stats drawn", env);
  assert.ok((await coloured.until("\x1b[32mready\x1b[39m")).includes("\x1b[1mID "));
  await coloured.until("\x1b[H\x1b[J");
  await coloured.until("\x1b[H\x1b[J");
  await using plain = new AtTerminal("quasaur ps", { ...env, NO_COLOR: "1" });
  const text = await plain.end();
  assert.match(text, / default\/drawn .*ready/);
  assert.ok(!text.includes("\x1b["), JSON.stringify(text));
});

test("bash completes verbs, options and the names of what runs", async ({ bed, cri }) => {
  const { pod } = await sleepingPod(cri, "completed");
  await using _ = pod;
  const script = `
    source <('${QUASAUR}' completion bash)
    for line in 'exec compl' 'ps --filter=na' 'resu' 'run wasm /etc/host'; do
      COMP_LINE="${QUASAUR} $line" COMP_POINT=$((\${#line} + ${QUASAUR.length + 1})) _quasaur
      echo "$line: \${COMPREPLY[*]}"
    done`;
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["--norc", "--noprofile", "-c", script],
    env: { QUASAUR_ADDRESS: socketOf(bed), DENO: Deno.execPath(), NO_COLOR: "1" },
    stdin: "null",
  }).output();
  assert.equal(
    new TextDecoder().decode(stdout),
    "exec compl: completed\nps --filter=na: name= namespace=\nresu: resume\n" +
      "run wasm /etc/host: \n",
    new TextDecoder().decode(stderr),
  );
});
