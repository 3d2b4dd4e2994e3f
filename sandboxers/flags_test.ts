import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { type Flags, type KindFlag, oneOf, parseFlags } from "./flags.ts";

function flags(...args: string[]): Flags {
  const outcome = parseFlags("wasm", args);
  assert.ok(outcome.kind === "run");
  return outcome.flags;
}

Deno.test("parseFlags() without flags gives the defaults of the kind", () => {
  assert.deepEqual(flags(), {
    listen: "/run/quasaur/wasm.sock",
    taskListen: "/run/quasaur/wasm-task.sock",
    dir: "/run/quasaur/wasm",
    containerdEvents: "/run/containerd/containerd.sock.ttrpc",
    unstartedSecondsMax: 600,
    drainSeconds: 10,
    holdSeconds: 30,
    logLevel: "info",
    logFormat: "text",
    metrics: { kind: "unix", path: "/run/quasaur/wasm-metrics.sock" },
    metricsPodsMax: 0,
  });
});

Deno.test("parseFlags() takes every flag, with a space or with =", () => {
  const args = "--listen /a.sock --task-listen=/b.sock --dir /d/ --containerd-events none " +
    "--unstarted-max=0 --drain=2 --hold 0 --log-level=trace --log-format json " +
    "--metrics 127.0.0.1:9741 --metrics-pods=50";
  assert.deepEqual(flags(...args.split(" ")), {
    listen: "/a.sock",
    taskListen: "/b.sock",
    dir: "/d",
    containerdEvents: undefined,
    unstartedSecondsMax: 0,
    drainSeconds: 2,
    holdSeconds: 0,
    logLevel: "trace",
    logFormat: "json",
    metrics: { kind: "tcp", hostname: "127.0.0.1", port: 9741 },
    metricsPodsMax: 50,
  });
});

Deno.test("metrics are beside the Sandbox API's socket, or nowhere where that path is too long", () => {
  const path = "/a/b-metrics.sock";
  assert.deepEqual(flags("--listen=/a/b.sock").metrics, { kind: "unix", path });
  assert.equal(flags(`--listen=/${"x".repeat(100)}.sock`).metrics, undefined);
  assert.equal(flags("--metrics=none").metrics, undefined);
});

Deno.test("parseFlags() names the flag that is wrong", () => {
  const wrong: [string, RegExp][] = [
    ["--listen=", /--listen/],
    ["--listen=relative.sock", /--listen/],
    ["--listen=/run/", /--listen/],
    ["--listen=/a/../b.sock", /--listen/],
    [`--listen=/${"x".repeat(107)}`, /--listen.*107/],
    ["--listen", /--listen/],
    ["--task-listen=b", /--task-listen/],
    ["--task-listen=/run/quasaur/wasm.sock", /--task-listen.*--listen/],
    ["--dir=d", /--dir/],
    ["--containerd-events=tcp://1.2.3.4", /--containerd-events/],
    ["--unstarted-max=1h", /--unstarted-max.*seconds/],
    ["--unstarted-max=86401", /--unstarted-max.*86400/],
    ["--drain=-1", /--drain.*seconds/],
    ["--hold=soon", /--hold.*seconds/],
    ["--log-level=loud", /--log-level.*trace, debug, info, warn, error/],
    ["--log-format=xml", /--log-format/],
    ["--metrics=0.0.0.0:9741", /--metrics.*loopback/],
    ["--metrics-pods=1001", /--metrics-pods.*1000/],
    ["--no-such-flag", /--no-such-flag/],
    ["stray", /stray/],
  ];
  for (const [arg, message] of wrong) {
    assert.throws(() => parseFlags("wasm", [arg]), { code: "InvalidArgument", message }, arg);
  }
});

Deno.test("parseFlags() takes the longest socket path that Linux takes", () => {
  const path = `/${"x".repeat(106)}`;
  assert.equal(flags(`--listen=${path}`).listen, path);
});

Deno.test("--help names every flag and --version the version", () => {
  const help = parseFlags("vmm", ["--help"]);
  assert.ok(help.kind === "print");
  for (const flag of ["listen", "task-listen", "dir", "containerd-events", "log-level"]) {
    assert.match(help.text, new RegExp(`--${flag} `));
  }
  assert.match(help.text, /\/run\/quasaur\/vmm\.sock/);
  assert.deepEqual(parseFlags("vmm", ["--version"]), {
    kind: "print",
    text: `quasaur-vmm ${config.version}`,
  });
});

const OWN: { readonly colour: KindFlag<string>; readonly size: KindFlag<number> } = {
  colour: {
    placeholder: "NAME",
    help: ["red or green", "(default red)"],
    read: (flag, text = "red") => oneOf(flag, text, ["red", "green"]),
  },
  size: {
    placeholder: "N",
    help: ["how large"],
    read: (_, text = "7") => Number(text),
  },
};

Deno.test("parseFlags() reads the flags of a kind beside those of all", () => {
  const outcome = parseFlags("vmm", ["--size=9", "--dir", "/d"], OWN);
  assert.ok(outcome.kind === "run");
  assert.deepEqual(outcome.own, { colour: "red", size: 9 });
  assert.equal(outcome.flags.dir, "/d");
  assert.throws(() => parseFlags("vmm", ["--colour=blue"], OWN), {
    code: "InvalidArgument",
    message: /--colour "blue": expected one of red, green/,
  });
  assert.throws(() => parseFlags("vmm", ["--colour=red"]), { message: /--colour/ });
});

Deno.test("--help names the flags of a kind, in the same columns", () => {
  const help = parseFlags("vmm", ["--help"], OWN);
  assert.ok(help.kind === "print");
  assert.match(
    help.text,
    /^ {2}--colour NAME {14}red or green\n {29}\(default red\)\n {2}--size N {19}how large\n/m,
  );
  assert.match(help.text, /^ {2}--log-level LEVEL {10}trace/m);
});
