import assert from "node:assert/strict";
import { ProcessState, SandboxState } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { Fleet } from "../../sandboxers/client/fleet.ts";
import { buildProgram } from "../program.ts";
import { FakeClient } from "../testing/fake_fleet.ts";
import { knownValues } from "./known_values.ts";
import { FILES, nextWords } from "./words.ts";

const SANDBOXES = [
  {
    id: "abc123",
    name: "web",
    kind: "vmm",
    state: SandboxState.READY,
    managed: true,
    containers: [{ id: "c1", name: "app", state: ProcessState.RUNNING }, {
      id: "c2",
      name: "log",
      state: ProcessState.PAUSED,
    }],
  },
  {
    id: "def456",
    name: "evil $(name)",
    kind: "wasm",
    state: SandboxState.STOPPED,
    containers: [],
  },
];

async function next(...words: string[]): Promise<string[] | typeof FILES> {
  const program = buildProgram(() => undefined);
  const open = () => Promise.resolve(new Fleet([new FakeClient({ sandboxes: SANDBOXES })]));
  const known = knownValues(open, program.commands.map((verb) => verb.name()));
  const found = await nextWords(program, words, known);
  return found === FILES ? FILES : found.map(({ word }) => word);
}

Deno.test("verbs are completed, and those below verbs", async () => {
  assert.deepEqual(await next("pau"), ["pause"]);
  assert.deepEqual(await next("--address", "/x.sock", "resu"), ["resume"]);
  assert.deepEqual(await next("run", "gv"), ["gvisor"]);
  assert.deepEqual(await next("help", "ins"), ["inspect"].concat(await installs()));
  assert.ok(!(await next("")).includes("__complete"));
});

/** Verbs that begin like inspect. */
async function installs(): Promise<string[]> {
  const words = await next("ins");
  return words === FILES ? [] : words.filter((word) => word !== "inspect");
}

Deno.test("options are completed, and their values in both ways of writing", async () => {
  assert.deepEqual(await next("ps", "--no-t"), ["--no-trunc"]);
  assert.deepEqual(await next("ps", "--filter", "na"), ["name=", "namespace="]);
  assert.deepEqual(await next("ps", "--filter=na"), ["--filter=name=", "--filter=namespace="]);
  assert.deepEqual(await next("kill", "-s", "KI"), ["KILL"]);
  assert.deepEqual(await next("logs", "--since", ""), []);
  assert.equal(await next("ps", "--address", "/ru"), FILES);
  assert.deepEqual(await next("events", "--filter", "t"), ["type="]);
});

Deno.test("names of what runs are completed, for verbs that are for them", async () => {
  assert.deepEqual(await next("logs", ""), ["web", "web/app", "web/log"]);
  assert.deepEqual(await next("stop", ""), ["web"]);
  assert.deepEqual(await next("resume", "w"), ["web", "web/app", "web/log"]);
  assert.deepEqual(await next("rm", "web", "de"), ["def456"]);
  assert.deepEqual(await next("inspect", "abc"), ["abc123"]);
});

Deno.test("a name that a shell would take for something else is never given to it", async () => {
  assert.deepEqual(await next("rm", ""), ["web", "def456"]);
});

Deno.test("what a program in a sandbox takes is its own", async () => {
  assert.equal(await next("exec", "web", "ls", "-"), FILES);
  assert.equal(await next("run", "wasm", "./a"), FILES);
});

Deno.test("words that nothing is known of are no failure", async () => {
  assert.deepEqual(await next("nosuch", "-x", ""), []);
  assert.deepEqual(await next("completion", "f"), ["fish"]);
  assert.deepEqual(await next("completion", "fish", ""), []);
});
