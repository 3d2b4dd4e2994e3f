import assert from "node:assert/strict";
import { DEFAULT_HOST_LAUNCHER_PATH } from "../sandboxers/host/launcher_file.ts";
import { DEFAULT_LAUNCHER_PATH } from "../sandboxers/wasm/native/launcher_file.ts";
import { run } from "./support/command.ts";
import { permissionFlags, REPOSITORY } from "./support/permissions.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";

/** The launcher of each kind of sandboxer. */
const LAUNCHERS = {
  wasm: DEFAULT_LAUNCHER_PATH,
  vmm: DEFAULT_HOST_LAUNCHER_PATH,
  quark: DEFAULT_HOST_LAUNCHER_PATH,
} as const;

/** A kind of sandboxer. */
type Kind = keyof typeof LAUNCHERS;

/** What a sandboxer may not do: what is tried, and the code that tries it. */
const FORBIDDEN: readonly (readonly [string, string])[] = [
  ["spawn a program", `await new Deno.Command("/bin/true").output()`],
  [
    "spawn a program through node's API",
    `const { spawn } = await import("node:child_process");
    await new Promise((exit, fail) => spawn("/bin/true").on("exit", exit).on("error", fail))`,
  ],
  [
    "spawn the launcher under another loader",
    `await new Deno.Command(LAUNCHER, { env: { LD_PRELOAD: "/tmp/x.so" } }).output()`,
  ],
  [
    "spawn a copy of the launcher",
    `await new Deno.Command("/tmp/" + LAUNCHER.split("/").at(-1)).output()`,
  ],
  ["end another process", `Deno.kill(1, "SIGCONT")`],
  ["read /etc/passwd", `await Deno.readTextFile("/etc/passwd")`],
  ["read the home directory", `for await (const _ of Deno.readDir("/root")) break`],
  [
    "read containerd's content store",
    `for await (const _ of Deno.readDir("/var/lib/containerd/io.containerd.content.v1.content")) break`,
  ],
  [
    "read containerd's database",
    `await Deno.readFile("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db")`,
  ],
  [
    "talk to containerd's API",
    `await Deno.connect({ transport: "unix", path: "/run/containerd/containerd.sock" })`,
  ],
  ["write to /etc", `await Deno.writeTextFile("/etc/quasaur-was-here", "")`],
  ["write to /tmp", `await Deno.writeTextFile("/tmp/quasaur-was-here", "")`],
  ["connect by TCP", `await Deno.connect({ hostname: "127.0.0.1", port: 9 })`],
  ["listen by TCP", `Deno.listen({ hostname: "127.0.0.1", port: 0 })`],
  [
    "connect to another unix socket",
    `await Deno.connect({ transport: "unix", path: "/run/x.sock" })`,
  ],
  ["open another library", `Deno.dlopen("libc.so.6", {})`],
  ["import code from the net", `await import("https://127.0.0.1/x.ts")`],
];

/** What kinds without FFI leave to the launcher alone, and what is another kind's. */
const FORBIDDEN_WITHOUT_FFI: readonly (readonly [string, string])[] = [
  ["look at other processes", `await Deno.readTextFile("/proc/1/environ")`],
  ["open a device", `await Deno.open("/dev/kvm", { read: true, write: true })`],
  ["write to a cgroup", `await Deno.writeTextFile("/sys/fs/cgroup/cgroup.procs", "1")`],
  ["open the library of the wasm kind", `Deno.dlopen(LIBRARY, {})`],
  ["spawn the launcher of the wasm kind", `await new Deno.Command(WASM_LAUNCHER).output()`],
];

/** What microVMs are made with, and which the launcher alone touches. */
const FORBIDDEN_TO_VMM: readonly (readonly [string, string])[] = [
  ...FORBIDDEN_WITHOUT_FFI,
  [
    "spawn QEMU past the launcher",
    `await new Deno.Command("/usr/bin/qemu-system-x86_64").output()`,
  ],
  [
    "spawn virtiofsd past the launcher",
    `await new Deno.Command("/usr/libexec/virtiofsd").output()`,
  ],
  [
    "spawn another program by the name of mkfs.erofs",
    `await new Deno.Command("/tmp/mkfs.erofs").output()`,
  ],
  [
    "spawn mkfs.erofs under another loader",
    `await new Deno.Command("/usr/bin/mkfs.erofs", { env: { LD_PRELOAD: "/tmp/x.so" } }).output()`,
  ],
  [
    "connect to the control socket of a machine by its own path",
    `await Deno.connect({ transport: "unix", path: "/run/quasaur/vmm/machines/a/qmp.sock" })`,
  ],
  [
    "read the files of another snapshotter",
    `for await (const _ of Deno.readDir("/var/lib/containerd/io.containerd.snapshotter.v1.native")) break`,
  ],
  [
    "write to snapshots",
    `await Deno.writeTextFile("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/x", "")`,
  ],
  ["write its configuration", `await Deno.writeTextFile("/etc/quasaur/vmm.toml", "")`],
  [
    "change kernel and agent of guests",
    `await Deno.open("/var/cache/quasaur/guest/initrd.cpio", { write: true })`,
  ],
];

/** What application kernels are run with, and what is not theirs. */
const FORBIDDEN_TO_QUARK: readonly (readonly [string, string])[] = [
  ...FORBIDDEN_WITHOUT_FFI,
  ["spawn another program by the name of runsc", `await new Deno.Command("/tmp/runsc").output()`],
  [
    "spawn runsc under another loader",
    `await new Deno.Command("/usr/bin/runsc", { env: { LD_PRELOAD: "/tmp/x.so" } }).output()`,
  ],
  ["spawn Quark past the launcher", `await new Deno.Command("/usr/local/bin/quark").output()`],
  ["spawn the OCI runtime of others", `await new Deno.Command("/usr/bin/runc").output()`],
  [
    "connect to the control socket of a sandbox by its own path",
    `await Deno.connect({ transport: "unix", path: "/run/quasaur/quark/runsc/a.sock" })`,
  ],
  [
    "read snapshots",
    `for await (const _ of Deno.readDir("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs")) break`,
  ],
  [
    "write to containerd's bundles",
    `await Deno.writeTextFile("/run/containerd/io.containerd.runtime.v2.task/x", "")`,
  ],
  ["write its configuration", `await Deno.writeTextFile("/etc/quasaur/quark.toml", "")`],
  ["change runsc", `await Deno.open("/usr/bin/runsc", { write: true })`],
  ["change the configuration of Quark", `await Deno.writeTextFile("/etc/quark/config.json", "")`],
];

/** Said before each of them. */
function head(kind: Kind): string {
  const names = {
    LAUNCHER: LAUNCHERS[kind],
    WASM_LAUNCHER: DEFAULT_LAUNCHER_PATH,
    LIBRARY: `${REPOSITORY}/sandboxers/wasm/native/build/libquasaur-guest.so`,
  };
  return Object.entries(names)
    .map(([name, path]) => `const ${name} = ${JSON.stringify(path)};\n`).join("");
}

/** Runs code with the permission set of a sandboxer. */
async function runWith(kind: Kind, code: string): Promise<{ status: number; output: string }> {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/probe.ts`, `${head(kind)}${code};\n`);
    const flags = permissionFlags(sandboxerProgram(kind).permissions, new Map());
    const { status, stdout, stderr } = await run([
      Deno.execPath(),
      "run",
      "--no-prompt",
      `--config=${REPOSITORY}/deno.json`,
      ...flags,
      `${directory}/probe.ts`,
    ], { check: false, env: { NO_COLOR: "1", QUASAUR_SECRET: "hush" } });
    return { status, output: stdout + stderr };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What a kind may not do, beside what none may. */
const FORBIDDEN_TO: Readonly<Record<Kind, readonly (readonly [string, string])[]>> = {
  wasm: [],
  vmm: FORBIDDEN_TO_VMM,
  quark: FORBIDDEN_TO_QUARK,
};

for (const kind of ["wasm", "vmm", "quark"] as const) {
  for (const [what, code] of [...FORBIDDEN, ...FORBIDDEN_TO[kind]]) {
    Deno.test(`the ${kind} sandboxer may not ${what}`, async () => {
      const { status, output } = await runWith(kind, code);
      assert.notEqual(status, 0, "it was allowed");
      assert.match(output, /NotCapable|Requires \w+ access/);
    });
  }

  Deno.test(`the ${kind} sandboxer sees none of the environment but what it is told by systemd`, async () => {
    const code =
      `console.log(JSON.stringify([Deno.env.get("QUASAUR_SECRET"), Deno.env.get("HOME")]))`;
    const { status, output } = await runWith(kind, code);
    assert.equal(status, 0, output);
    assert.equal(output.trim(), "[null,null]");
  });

  Deno.test(`the ${kind} sandboxer has no right to everything of a kind`, () => {
    for (const [name, value] of Object.entries(sandboxerProgram(kind).permissions)) {
      assert.notEqual(value, true, `"${name}" is not limited`);
    }
  });
}

Deno.test("the vmm sandboxer has no right to load libraries, and to one program beside its launcher", () => {
  const { permissions } = sandboxerProgram("vmm");
  assert.equal(permissions["ffi"], undefined);
  assert.deepEqual(permissions["run"], [
    "./sandboxers/host/native/build/quasaur-host-launcher",
    "/usr/bin/mkfs.erofs",
  ]);
  const { net } = permissions;
  assert.ok(Array.isArray(net));
  for (const address of net) assert.match(String(address), /^unix:\/run\//);
});

Deno.test("the quark sandboxer has no right to load libraries, and to one program beside its launcher", () => {
  const { permissions } = sandboxerProgram("quark");
  assert.equal(permissions["ffi"], undefined);
  assert.equal(permissions["sys"], undefined);
  assert.deepEqual(permissions["run"], [
    "./sandboxers/host/native/build/quasaur-host-launcher",
    "/usr/bin/runsc",
  ]);
  const { net } = permissions;
  assert.ok(Array.isArray(net));
  for (const address of net) assert.match(String(address), /^unix:\/run\//);
});

for (const kind of ["vmm", "quark"] as const) {
  Deno.test(`the ${kind} sandboxer may spawn its launcher, which runs nothing that others could change`, async () => {
    const directory = await Deno.makeTempDir();
    try {
      const program = `${directory}/program`;
      await Deno.copyFile("/bin/true", program);
      await Deno.chmod(program, 0o777);
      const attempts: readonly (readonly string[])[] = [
        [],
        ["/bin/true"],
        ["exec", "/bin/true"],
        ["vmm", "/bin/true"],
        ["vmm", `--directory=${directory}`, `--log=${directory}/log`, "--", "true"],
        ["vmm", `--directory=${directory}`, `--log=${directory}/log`, "--", program],
        [
          "vmm",
          `--directory=${directory}`,
          `--log=${directory}/log`,
          "--uid=0",
          "--gid=0",
          "--",
          program,
        ],
        ["stdio", "-", "-", "-", "--", program],
        ["bounded", "1000", "--", program],
        ["netns-mask", "--", program],
        [
          "bounded",
          "1000",
          "--",
          DEFAULT_HOST_LAUNCHER_PATH,
          "stdio",
          "-",
          "-",
          "-",
          "--",
          program,
        ],
      ];
      const code = `for (const args of ${JSON.stringify(attempts)}) {
      const { code, stderr } = await new Deno.Command(LAUNCHER, { args, stdin: "null" }).output();
      console.log(code === 0 ? "ran" : "refused", new TextDecoder().decode(stderr).length > 0);
    }`;
      const { status, output } = await runWith(kind, code);
      assert.equal(status, 0, output);
      assert.equal(output, "refused true\n".repeat(attempts.length));
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

Deno.test("the wasm sandboxer may spawn its launcher, which runs no program that is named to it", async () => {
  const attempts: readonly (readonly string[])[] = [
    [],
    ["/bin/true"],
    ["--help"],
    ["compile", "/bin/true"],
    ["compile", "--optimize=9"],
    ["compile", "--optimize=2", "--", "/bin/true"],
    ["exec", "/bin/true"],
    ["compile\n"],
  ];
  const code = `for (const args of ${JSON.stringify(attempts)}) {
    const { code, stdout } = await new Deno.Command(LAUNCHER, { args, stdin: "null" }).output();
    console.log(code, stdout.length);
  }
  const { code, stderr } = await new Deno.Command(LAUNCHER, { args: ["compile"], stdin: "null" })
    .output();
  console.log(code, new TextDecoder().decode(stderr).trim());`;
  const { status, output } = await runWith("wasm", code);
  assert.equal(status, 0, output);
  assert.equal(
    output,
    "2 0\n".repeat(attempts.length) + "4 quasaur-launcher: unexpected end\n",
  );
});
