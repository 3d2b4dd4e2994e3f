import assert from "node:assert/strict";
import type { AgentEvent } from "../../guest/protocol/messages.ts";
import { Ear } from "./guest.ts";

function note(message: string): AgentEvent {
  return { kind: "log", level: "warn", message };
}

Deno.test("what an agent says before anybody listens is told to the first who does", () => {
  const ear = new Ear();
  ear.hear(note("a"));
  const heard: AgentEvent[] = [];
  ear.attach((event) => heard.push(event));
  ear.hear(note("b"));
  assert.deepEqual(heard, [note("a"), note("b")]);
});

Deno.test("a guest cannot fill memory nor log with its notes", () => {
  let now = 0;
  const ear = new Ear(() => now);
  for (let i = 0; i < 100_000; i++) ear.hear(note("x".repeat(60_000)));
  const heard: AgentEvent[] = [];
  ear.attach((event) => heard.push(event));
  assert.ok(heard.length < 100, `${heard.length} notes`);
  const length = heard.reduce((sum, event) => sum + JSON.stringify(event).length, 0);
  assert.ok(length < 100_000, `${length} characters`);
  now += 60_000;
  const before = heard.length;
  for (let i = 0; i < 1000; i++) ear.hear(note("x"));
  assert.ok(heard.length > before && heard.length - before < 100);
});

Deno.test("ends of processes are told however many notes there are", () => {
  const ear = new Ear();
  const heard: string[] = [];
  ear.attach(({ kind }) => heard.push(kind));
  for (let i = 0; i < 1000; i++) ear.hear(note("x"));
  const name = { container: "c", exec: "" };
  ear.hear({ kind: "exit", exit: { ...name, status: 0, atMs: 1, oom: false, signaled: false } });
  assert.equal(heard.at(-1), "exit");
});
