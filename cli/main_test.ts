import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { RUNTIME, Workplace } from "./testing/command.ts";

Deno.test("quasaur --version and version print the version", async () => {
  await using place = await Workplace.make();
  const short = await place.run(["--version"]);
  assert.deepEqual(short, { code: 0, stdout: `quasaur ${config.version}\n`, stderr: "" });
  const long = await place.run(["version"]);
  assert.equal(long.code, 0);
  assert.match(long.stdout, new RegExp(`^quasaur ${RegExp.escape(config.version)}\ndeno \\d`));
});

Deno.test("quasaur --help and run wasm --help print help with examples", async () => {
  await using place = await Workplace.make();
  const top = await place.run(["--help"]);
  assert.equal(top.code, 0);
  assert.match(top.stdout, /Usage: quasaur/);
  assert.match(top.stdout, /\brun\b[\s\S]*\bversion\b/);
  const wasm = await place.run(["run", "wasm", "--help"]);
  assert.equal(wasm.code, 0);
  assert.match(wasm.stdout, /Usage: quasaur run wasm \[options\] WHAT \[-- args\.\.\.\]/);
  for (const text of ["--dir", "--env", "--memory", "--workdir", "Examples:"]) {
    assert.ok(wasm.stdout.includes(text), text);
  }
});

Deno.test("quasaur help prints the help of a command, also of one below another", async () => {
  await using place = await Workplace.make();
  const { code, stdout } = await place.run(["help", "run", "vmm"]);
  assert.equal(code, 0);
  assert.match(stdout, /^Usage: quasaur run vmm /);
  assert.deepEqual(await place.run(["help", "run", "docker"]), {
    code: 2,
    stdout: "",
    stderr: "quasaur: unknown command 'run docker'\n",
  });
});

Deno.test("quasaur without a command shows its help and fails as a bad command line", async () => {
  await using place = await Workplace.make();
  const { code, stdout, stderr } = await place.run([]);
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^Usage: quasaur/);
});

Deno.test("a bad command line ends with 2, says what was found and prints nothing else", async () => {
  await using place = await Workplace.make();
  const cases: [string[], RegExp][] = [
    [["bogus"], /unknown command 'bogus'/],
    [["runn"], /unknown command 'runn' \(Did you mean run\?\)/],
    [["--bogus"], /unknown option '--bogus'/],
    [["run"], /missing required argument 'kind'/],
    [["run", "wasm"], /missing required argument 'WHAT'/],
    [["run", "wasm", ""], /Invalid WHAT ""/],
    [["run", "quark"], /missing required argument 'WHAT'/],
    [["run", "quark", "--rootfs", "x"], /missing required argument 'COMMAND'/],
    [["run", "podman"], /kind "podman": unknown: expected wasm/],
    [["run", "wasm", "--bogus", "x.wasm"], /unknown option '--bogus'/],
    [["run", "wasm", "--dir"], /option '--dir .*' argument missing/],
    [["run", "wasm", "--dir", "data", "x.wasm"], /Invalid --dir "data": expected HOST:GUEST/],
    [["run", "wasm", "--dir", "/nowhere:/data", "x.wasm"], /"\/nowhere" is none/],
    [["run", "wasm", "--env", "A", "x.wasm"], /Invalid --env "A": expected NAME=VALUE/],
    [["run", "wasm", "--memory", "lots", "x.wasm"], /Invalid --memory "lots": expected a size/],
    [["run", "wasm", "--workdir", "a", "x.wasm"], /Invalid --workdir "a": expected an absolute/],
  ];
  for (const [args, words] of cases) {
    const { code, stdout, stderr } = await place.run(args);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, words);
    assert.match(stderr, /^quasaur: .*\n$/, "one line");
  }
});

for (const set of ["cli", "cli-vmm", "cli-gvisor"]) {
  Deno.test(`the rights of "${set}" end at files: no process, no network, no other library`, () =>
    expectNoOtherRights(set));
}

async function expectNoOtherRights(set: string): Promise<void> {
  await using place = await Workplace.make();
  const program = `${place.path}/attempts.ts`;
  await Deno.writeTextFile(
    program,
    `const attempts: Record<string, () => unknown> = {
      run: () => new Deno.Command("true").outputSync(),
      net: () => Deno.listen({ port: 0 }),
      ffi: () => Deno.dlopen("libc.so.6", {}),
      write: () => Deno.writeTextFileSync("/etc/quasaur-test", ""),
      sys: () => Deno.hostname(),
    };
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        attempt();
        console.log(name, "allowed");
      } catch (error) {
        console.log(name, error instanceof Deno.errors.NotCapable ? "denied" : error);
      }
    }
    console.log("env", Deno.env.get("PATH"));`,
  );
  const [deno = "", ...args] = RUNTIME.map((arg) =>
    arg.replace("--permission-set=cli", `--permission-set=${set}`)
  );
  const { stdout, stderr } = await new Deno.Command(deno, { args: [...args, program] }).output();
  assert.equal(
    new TextDecoder().decode(stdout),
    "run denied\nnet denied\nffi denied\nwrite denied\nsys denied\nenv undefined\n",
    new TextDecoder().decode(stderr),
  );
}
