import assert from "node:assert/strict";
import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Container, open, type RunOptions, type Sandbox, SandboxError } from "./mod.ts";
import { type GuestName, GUESTS_BUILD_DIR } from "./tests/guests/build.ts";

function guest(name: GuestName): string {
  return `${GUESTS_BUILD_DIR}/${name}.wasm`;
}

/** Runs something in a sandbox of its own. */
async function inSandbox(use: (sandbox: Sandbox) => Promise<void>): Promise<void> {
  await using sandboxer = await open("wasm");
  await using sandbox = await sandboxer.createSandbox();
  await use(sandbox);
}

/** Runs a test with one container. */
function withContainer(
  options: RunOptions,
  use: (container: Container) => Promise<void>,
): () => Promise<void> {
  return () =>
    inSandbox(async (sandbox) => {
      await using container = await sandbox.run(options);
      await use(container);
    });
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function pattern(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).map((_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff);
}

Deno.test(
  "a container's output is a stream that ends when it has ended",
  withContainer({ module: guest("hello") }, async (container) => {
    const parts: string[] = [];
    for await (const part of container.stdout.pipeThrough(new TextDecoderStream())) {
      parts.push(part);
    }
    assert.equal(parts.join(""), "hello from wasm\n");
    const { status, reason } = await container.exit;
    assert.deepEqual({ status, reason }, { status: 0, reason: "exited" });
  }),
);

Deno.test(
  "output() gives both outputs and the exit",
  withContainer({ module: guest("lines"), args: ["20"], env: { ID: "a" } }, async (container) => {
    const { exit, stdout, stderr } = await container.output();
    assert.equal(exit.status, 0);
    assert.equal(text(stdout).split("\n").length, 21);
    assert.equal(text(stderr), "a err 0\na err 10\n");
  }),
);

Deno.test("run() takes a module as path, as file: URL and as bytes", async () => {
  await inSandbox(async (sandbox) => {
    const bytes = await Deno.readFile(guest("hello"));
    for (const module of [guest("hello"), pathToFileURL(guest("hello")), bytes]) {
      await using container = await sandbox.run({ module });
      assert.equal(text((await container.output()).stdout), "hello from wasm\n");
    }
  });
});

Deno.test("run() takes a root file system with the module in it", async () => {
  const rootfs = await Deno.makeTempDir({ prefix: "quasaur-mod-test-" });
  try {
    await Deno.mkdir(`${rootfs}/bin`);
    await Deno.copyFile(guest("fs"), `${rootfs}/bin/fs.wasm`);
    await inSandbox(async (sandbox) => {
      const args = ["w:/new", "r:/new"];
      await using container = await sandbox.run({ rootfs, module: "/bin/fs.wasm", args });
      assert.equal(text((await container.output()).stdout), "write /new: ok\nread /new: written\n");
    });
    assert.equal(await Deno.readTextFile(`${rootfs}/new`), "written");
  } finally {
    await Deno.remove(rootfs, { recursive: true });
  }
});

Deno.test(
  "five megabytes go through stdin and stdout unchanged",
  withContainer({ module: guest("cat"), stdin: "piped" }, async (container) => {
    const bytes = pattern(5_000_000);
    const sent = new Blob([bytes]).stream().pipeTo(container.stdin);
    const { exit, stdout } = await container.output();
    await sent;
    assert.equal(exit.status, 0);
    assert.deepEqual(stdout, bytes);
  }),
);

Deno.test(
  "a stream that is first read after the exit has every byte",
  withContainer({ module: guest("lines"), args: ["500"], env: { ID: "a" } }, async (container) => {
    assert.equal((await container.exit).status, 0);
    const { stdout } = await container.output();
    assert.match(text(stdout), /^a out 0 x+\n[^]*\na out 499 x+\n$/);
  }),
);

Deno.test(
  "a container waits while its output is not read, and goes on when it is",
  withContainer(
    { module: guest("lines"), args: ["20000"], env: { ID: "a" }, stderr: "null" },
    async (container) => {
      const { promise: waited, resolve } = Promise.withResolvers<string>();
      const timer = setTimeout(() => resolve("waited"), 500);
      assert.equal(await Promise.race([container.exit.then(() => "ended"), waited]), "waited");
      clearTimeout(timer);
      const { exit, stdout } = await container.output();
      assert.equal(exit.status, 0);
      assert.equal(text(stdout).match(/^a out \d+ x+$/gm)?.length, 20_000);
    },
  ),
);

Deno.test(
  "a container whose output was cancelled finds a broken pipe and goes on",
  withContainer(
    { module: guest("lines"), args: ["100000"], env: { ID: "a" }, stderr: "null" },
    async (container) => {
      await container.stdout.cancel();
      const { status, reason } = await container.exit;
      // The guest ends with 1 when it cannot write.
      assert.deepEqual({ status, reason }, { status: 1, reason: "exited" });
    },
  ),
);

Deno.test(
  "a write to a container that has ended fails",
  withContainer({ module: guest("hello"), stdin: "piped" }, async (container) => {
    await container.exit;
    const writer = container.stdin.getWriter();
    writer.closed.catch(() => undefined);
    await assert.rejects(writer.write(new Uint8Array(10)), {
      code: "FailedPrecondition",
      message: `cannot write stdin of container "${container.id}": nobody reads it any more`,
    });
  }),
);

for (const name of ["spin", "sleep", "cat"] as const) {
  Deno.test(
    `kill() ends ${name}, whatever it does, whether its output is read or not`,
    withContainer({ module: guest(name), stdin: "piped" }, async (container) => {
      await container.kill();
      const { status, reason } = await container.exit;
      assert.deepEqual({ status, reason }, { status: 137, reason: "signaled" });
      await container.kill();
      await container.kill("SIGTERM");
    }),
  );
}

Deno.test(
  "kill() takes signals by name and by number",
  withContainer({ module: guest("sleep") }, async (container) => {
    await assert.rejects(container.kill(1000), { code: "InvalidArgument" });
    await container.kill(0);
    await container.kill("SIGTERM");
    assert.equal((await container.exit).status, 143);
  }),
);

Deno.test("kill() ends a guest that waits for its output to be read", async () => {
  await inSandbox(async (sandbox) => {
    const options = { module: guest("lines"), args: ["100000"], env: { ID: "a" } };
    await using container = await sandbox.run(options);
    await container.kill();
    assert.equal((await container.exit).status, 137);
  });
});

Deno.test("disposing of a sandbox ends its containers, read or not", async () => {
  const exits: Container["exit"][] = [];
  await inSandbox(async (sandbox) => {
    for (const name of ["spin", "sleep", "lines", "cat"] as const) {
      const options = { module: guest(name), args: ["100000"], env: { ID: "a" } };
      exits.push((await sandbox.run({ ...options, stdin: "piped" })).exit);
    }
  });
  for (const { status } of await Promise.all(exits)) assert.equal(status, 137);
});

Deno.test("disposing of a sandbox gives up what is being started", async () => {
  await using sandboxer = await open("wasm");
  const sandbox = await sandboxer.createSandbox();
  const starting = sandbox.run({ module: guest("sleep") });
  const outcome = starting.then((container) => container.exit, (error: unknown) => error);
  await sandbox[Symbol.asyncDispose]();
  const end = await outcome;
  if (end instanceof Error) assert.ok(end instanceof SandboxError);
  else assert.ok(typeof end === "object" && end !== null && "status" in end);
  await assert.rejects(sandbox.run({ module: guest("hello") }), { code: "FailedPrecondition" });
});

Deno.test("a sandboxer that was disposed of takes no more sandboxes", async () => {
  const sandboxer = await open("wasm");
  await sandboxer[Symbol.asyncDispose]();
  await sandboxer[Symbol.asyncDispose]();
  await assert.rejects(sandboxer.createSandbox(), { code: "FailedPrecondition" });
});

Deno.test("fifty containers at once keep their outputs apart", async () => {
  await inSandbox(async (sandbox) => {
    const ids = Array.from({ length: 50 }, (_, i) => `g${i}`);
    await Promise.all(ids.map(async (id) => {
      const options = { id, module: guest("lines"), args: ["200"], env: { ID: id } };
      await using container = await sandbox.run(options);
      const { exit, stdout, stderr } = await container.output();
      assert.equal(exit.status, 0);
      const lines = text(stdout).trimEnd().split("\n");
      assert.deepEqual(
        lines.map((line) => line.split(" ").slice(0, 3).join(" ")),
        lines.map((_, i) => `${id} out ${i}`),
      );
      assert.equal(lines.length, 200);
      assert.equal(text(stderr).trimEnd().split("\n").length, 20);
    }));
  });
});

Deno.test("an aborted signal gives the start up, or kills the container", async () => {
  await using sandboxer = await open("wasm");
  const cancelled = { code: "Cancelled" };
  await assert.rejects(sandboxer.createSandbox({ signal: AbortSignal.abort() }), cancelled);
  await using sandbox = await sandboxer.createSandbox();
  const module = guest("sleep");
  await assert.rejects(sandbox.run({ module, signal: AbortSignal.abort() }), cancelled);
  const controller = new AbortController();
  await using container = await sandbox.run({ module, signal: controller.signal });
  controller.abort();
  assert.equal((await container.exit).status, 137);
});

Deno.test("output() stops at its bound and kills the container", async () => {
  await inSandbox(async (sandbox) => {
    const options = { module: guest("lines"), args: ["100000"], env: { ID: "a" } };
    await using container = await sandbox.run(options);
    await assert.rejects(container.output({ bytesMax: 1000 }), {
      code: "ResourceExhausted",
      message: `cannot collect stdout of container "${container.id}": more than 1000 bytes`,
    });
    const { status } = await container.exit;
    assert.ok(status === 137 || status === 1, `${status}`);
  });
});

Deno.test(
  "a stream that is not piped says so",
  withContainer({ module: guest("hello"), stdout: "null", stderr: "null" }, async (container) => {
    const refused = { code: "FailedPrecondition", message: /it is not piped/ };
    assert.throws(() => container.stdin, refused);
    assert.throws(() => container.stdout, refused);
    assert.throws(() => container.stderr, refused);
    const { exit, stdout } = await container.output();
    assert.deepEqual([exit.status, stdout.length], [0, 0]);
  }),
);

Deno.test("mounts, workdir and the memory limit reach the guest", async () => {
  const source = await Deno.makeTempDir({ prefix: "quasaur-mod-test-" });
  try {
    await Deno.writeTextFile(`${source}/in`, "content");
    await inSandbox(async (sandbox) => {
      await using reader = await sandbox.run({
        module: guest("fs"),
        args: ["r:/data/in", "w:/data/out"],
        mounts: [{ source, destination: "/data", readonly: true }],
      });
      const lines = text((await reader.output()).stdout).trimEnd().split("\n");
      assert.equal(lines[0], "read /data/in: content");
      assert.doesNotMatch(lines[1] ?? "", /: ok$/);
      await using eater = await sandbox.run({
        module: guest("memory"),
        args: ["64"],
        memoryBytes: 16 * 1024 * 1024,
      });
      const taken = /took (\d+) MiB/.exec(text((await eater.output()).stdout))?.[1];
      assert.ok(Number(taken) < 16, `took ${taken} MiB`);
    });
  } finally {
    await Deno.remove(source, { recursive: true });
  }
});

Deno.test(
  "stats() tells what a container uses",
  withContainer({ module: guest("spin") }, async (container) => {
    const reader = container.stdout.getReader();
    await reader.read();
    const first = await container.stats();
    assert.ok(first.memoryBytes > 0);
    let last = first;
    for (let i = 0; i < 100 && last.cpuNs <= first.cpuNs; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      last = await container.stats();
    }
    assert.ok(last.cpuNs > first.cpuNs);
  }),
);

Deno.test("bad options are refused by name, and nothing is left of the attempt", async () => {
  await using sandboxer = await open("wasm");
  await using sandbox = await sandboxer.createSandbox({ id: "one" });
  const module = guest("hello");
  const cases: [RunOptions, string, RegExp][] = [
    [{ module: "/no/such.wasm" }, "NotFound", /module "\/no\/such\.wasm": no such file/],
    [{ module: "/tmp" }, "InvalidArgument", /it is a directory/],
    [{ module: "/bin/true" }, "InvalidArgument", /module "\/bin\/true": .*native/],
    [{ module: new Uint8Array() }, "InvalidArgument", /empty/],
    [{ module: new URL("https://example.com/a.wasm") }, "InvalidArgument", /file: URL/],
    [{ module, args: ["a\0b"] }, "InvalidArgument", /args/],
    [{ module, env: { "A=B": "" } }, "InvalidArgument", /env "A=B"/],
    [{ module, env: { A: "a\0b" } }, "InvalidArgument", /env A/],
    [{ module, workdir: "a" }, "InvalidArgument", /workdir "a"/],
    [{ module, memoryBytes: 0.5 }, "InvalidArgument", /memoryBytes 0\.5/],
    [{ module, memoryBytes: -1 }, "InvalidArgument", /memoryBytes -1/],
    [{ module, mounts: [{ source: "/tmp", destination: "/" }] }, "InvalidArgument", /destination/],
    [{ module, mounts: [{ source: "/tmp", destination: "a" }] }, "InvalidArgument", /destination/],
    [{ module, mounts: [{ source: "", destination: "/a" }] }, "InvalidArgument", /source/],
    [{ module, id: "../x" }, "InvalidArgument", /container id "\.\.\/x"/],
    [{ module: new Uint8Array([1]), rootfs: "/" }, "InvalidArgument", /path inside/],
  ];
  for (const [options, code, message] of cases) {
    await assert.rejects(sandbox.run(options), { name: "SandboxError", code, message });
  }
  await assert.rejects(sandboxer.createSandbox({ id: "one" }), { code: "AlreadyExists" });
  await assert.rejects(sandboxer.createSandbox({ id: "a/b" }), { code: "InvalidArgument" });
  await assert.rejects(
    sandboxer.createSandbox({ network: { kind: "namespace", path: "/no/netns" } }),
    { name: "SandboxError", message: /\/no\/netns/ },
  );
  await using container = await sandbox.run({ id: "c", module });
  await assert.rejects(sandbox.run({ id: "c", module }), { code: "AlreadyExists" });
  assert.equal((await container.exit).status, 0);
});

Deno.test("open() refuses kinds that it does not have", async () => {
  const openAny: (kind: string) => Promise<unknown> = open as (kind: string) => Promise<unknown>;
  await assert.rejects(openAny("quark"), { code: "Unimplemented", message: /not in this version/ });
  await assert.rejects(openAny("toString"), { code: "InvalidArgument", message: /expected wasm/ });
});

const CONFIG = fileURLToPath(new URL("./deno.json", import.meta.url));

/** Runs a program as a child, with the rights that are named, and gives what it wrote. */
async function runChild(rights: string, args: readonly string[], cwd: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--config", CONFIG, rights, ...args],
    cwd,
  }).output();
  assert.ok(success, text(stderr));
  return text(stdout);
}

Deno.test("nothing is left after disposal: no descriptor, no thread, no file", async () => {
  const directory = await Deno.makeTempDir({ dir: "/tmp", prefix: "quasaur-mod-test-" });
  try {
    const program = new URL("./sandboxers/embedded/testing/leak_check.ts", import.meta.url);
    // To look at /proc/self takes all rights.
    const output = await runChild("--allow-all", [fileURLToPath(program), directory], directory);
    const { before, after } = JSON.parse(output);
    assert.deepEqual(after, before);
    assert.deepEqual(after.files, []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

const EXAMPLE = await sdkExample();

/** The code under the marker in the README. */
async function sdkExample(): Promise<string | undefined> {
  try {
    const readme = await Deno.readTextFile(new URL("./README.md", import.meta.url));
    return /<!-- sdk-example -->\s*```ts\n([^]*?)```/.exec(readme)?.[1];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

Deno.test({
  name: "the README's example runs as it is written, in under fifteen lines",
  ignore: EXAMPLE === undefined,
  fn: async () => {
    const code = EXAMPLE ?? "";
    assert.ok(code.trim().split("\n").length < 15);
    const directory = await Deno.makeTempDir({ dir: "/tmp", prefix: "quasaur-mod-test-" });
    try {
      const program = `${directory}/example.ts`;
      await Deno.writeTextFile(program, code);
      // The example names its module from the root of the repository.
      const output = await runChild("--permission-set=cli", [program], dirname(CONFIG));
      assert.match(output, /^arg world$/m);
      assert.match(output, /^exit status 0$/m);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
