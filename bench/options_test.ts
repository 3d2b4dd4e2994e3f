import assert from "node:assert/strict";
import { BENCHMARKS, parseOptions } from "./options.ts";

Deno.test("parseOptions() runs everything by default", () => {
  assert.deepEqual(parseOptions([]), { only: BENCHMARKS.wasm });
  assert.deepEqual(parseOptions(["wasm"]), { only: BENCHMARKS.wasm });
  assert.deepEqual(parseOptions(["vmm"]), { only: BENCHMARKS.vmm });
  assert.deepEqual(parseOptions(["quark"]), { only: BENCHMARKS.quark });
});

Deno.test("parseOptions() keeps the order of the benchmarks and drops repetitions", () => {
  const options = parseOptions(["--only", "rpc", "--only", "cri-start", "--only", "rpc"]);
  assert.deepEqual(options?.only, ["cri-start", "rpc"]);
});

Deno.test("parseOptions() reads files and the number of samples", () => {
  const args = ["wasm", "--json", "a.json", "--svg=b.svg", "--runs", "12"];
  assert.deepEqual(parseOptions(args), {
    only: BENCHMARKS.wasm,
    runs: 12,
    json: "a.json",
    svg: "b.svg",
  });
});

Deno.test("parseOptions() gives nothing to do where help is wanted", () => {
  assert.equal(parseOptions(["--help"]), undefined);
  assert.equal(parseOptions(["-h", "--only", "memory"]), undefined);
});

for (
  const [args, message] of [
    [["pods"], /invalid kind of sandbox "pods": expected wasm, vmm, quark/],
    [["vmm", "--only", "rpc"], /invalid --only "rpc": expected one of vmm-start/],
    [["wasm", "quick"], /invalid argument "quick"/],
    [["--only", "speed"], /invalid --only "speed": expected one of engine-start/],
    [["--runs", "0"], /invalid --runs "0"/],
    [["--runs", "1.5"], /invalid --runs "1.5"/],
    [["--runs", "10001"], /invalid --runs "10001"/],
    [["--json", ""], /invalid --json "": expected the path of a file/],
    [["--verbose"], /cannot read the command line/],
  ] as const
) {
  Deno.test(`parseOptions() refuses ${JSON.stringify(args)}`, () => {
    assert.throws(() => parseOptions(args), { code: "InvalidArgument", message });
  });
}
