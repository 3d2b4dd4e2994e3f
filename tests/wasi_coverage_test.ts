/**
 * Measures which functions of WASI preview 1 work in which engine, and holds the table in
 * docs/wasm.md to it.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  guestBytes,
  guestDirectory,
  runGuest,
  type TestedEngine,
} from "../sandboxers/wasm/testing/engine_harness.ts";
import { V8Engine } from "../sandboxers/wasm/v8/engine.ts";
import { WasmEdgeEngine } from "../sandboxers/wasm/wasmedge/engine.ts";

/** What came of each function, by its name: `works`, `differs`, `error N`, `not there`. */
type Coverage = ReadonlyMap<string, string>;

const PAGE = new URL("../docs/wasm.md", import.meta.url);
/** The exit code by which the guest shows that `proc_exit` works. */
const EXIT_CODE = 42;
/** Functions that every row is about; there are 46 of preview 1 and 22 of WasmEdge's. */
const FUNCTIONS = 68;

/** What a guest has printed: a function and its outcome on each line. */
function parse(text: string): Map<string, string> {
  const outcomes = new Map<string, string>();
  for (const line of text.trim().split("\n")) {
    const [, name = "", outcome = ""] = /^(\w+) (works|differs|error \d+)$/.exec(line) ?? [];
    assert.notEqual(name, "", `not an outcome: "${line}"`);
    outcomes.set(name, outcome);
  }
  return outcomes;
}

/** Calls every function of preview 1. */
async function measure(engine: TestedEngine): Promise<Map<string, string>> {
  const { system } = engine;
  await using root = await guestDirectory(system);
  await Deno.writeTextFile(`${root.path}/data`, "0123456789");
  const [stdin, writer] = system.pipe();
  using release = new DisposableStack();
  for (const fd of [stdin, writer]) release.defer(() => system.close(fd));
  assert.ok(system.tryWrite(writer, new TextEncoder().encode("x")));
  const { end, stdout, stderr } = await runGuest(engine, await guestBytes("wasi"), {
    args: ["wasi"],
    env: ["A=b"],
    preopens: [{ guestPath: "/", fd: root.fd, readonly: false }],
    stdin,
  });
  assert.equal(stderr, "");
  assert.deepEqual(end, { kind: "exit", code: EXIT_CODE });
  return parse(stdout).set("proc_exit", "works");
}

/** Calls every socket function of WasmEdge; those that both guests call count here. */
async function measureSockets(engine: TestedEngine): Promise<Map<string, string>> {
  const { end, stdout } = await runGuest(engine, await guestBytes("wasi_sockets"));
  assert.deepEqual(end, { kind: "exit", code: 0 });
  return parse(stdout);
}

/** The table of the page: a column for each engine. */
async function documented(): Promise<{ readonly wasmedge: Coverage; readonly v8: Coverage }> {
  const text = await Deno.readTextFile(PAGE);
  const table = /<!-- coverage -->([^]*)<!-- \/coverage -->/.exec(text)?.[1] ?? "";
  const wasmedge = new Map<string, string>();
  const v8 = new Map<string, string>();
  for (const row of table.split("\n").filter((line) => line.startsWith("| `"))) {
    const [, names = "", first = "", second = ""] = row.split("|");
    for (const [, name = ""] of names.matchAll(/`(\w+)`/g)) {
      assert.ok(!wasmedge.has(name), `${name} has two rows`);
      wasmedge.set(name, outcomeOf(first));
      v8.set(name, outcomeOf(second));
    }
  }
  return { wasmedge, v8 };
}

function outcomeOf(cell: string): string {
  return /^(works|differs|error \d+|not there)/.exec(cell.trim())?.[1] ?? `unclear: "${cell}"`;
}

function sorted(coverage: Coverage): readonly (readonly [string, string])[] {
  return [...coverage].sort(([a], [b]) => a.localeCompare(b));
}

const wasmEdge = new WasmEdgeEngine();
const v8 = new V8Engine();

Deno.test("the table of WASI functions says what WasmEdge does", async () => {
  const measured = new Map([...await measure(wasmEdge), ...await measureSockets(wasmEdge)]);
  assert.equal(measured.size, FUNCTIONS);
  assert.deepEqual(sorted((await documented()).wasmedge), sorted(measured));
});

Deno.test("the table of WASI functions says what V8 does", async () => {
  const measured = await measure(v8);
  const sockets = await measureSockets(wasmEdge);
  for (const name of sockets.keys()) if (!measured.has(name)) measured.set(name, "not there");
  assert.deepEqual(sorted((await documented()).v8), sorted(measured));
});
