/**
 * `quasaur run` of images: from an archive, a layout and a real containerd, in a process of its own and
 * through real sandboxers with their own permission sets.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Command } from "commander";
import { addAddress } from "../cli/client/command.ts";
import { runGvisorCommand } from "../cli/run_gvisor.ts";
import { THROUGH_PORTS, type ThroughPorts } from "../cli/run_through.ts";
import { runWasmCommand } from "../cli/run_wasm.ts";
import { open } from "../mod.ts";
import { ManagementClient } from "../sandboxers/client/management_client.ts";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { mountsBelow } from "./support/mount_table.ts";
import { type BedContext, bedTests } from "./support/bed_tests.ts";
import {
  busyboxImage,
  imageArchive,
  type ImageDescription,
  wasmImage,
} from "./support/oci_image.ts";
import { waitFor } from "./support/wait.ts";

const test = bedTests({ kinds: ["wasm", "quark"] });
const encoder = new TextEncoder();
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";

/** An image of a Linux system whose user has a name. */
async function linuxImage(reference: string): Promise<ImageDescription> {
  return await busyboxImage(reference, {
    entrypoint: ["/bin/sh", "-c"],
    cmd: ["echo by itself"],
    env: ["PATH=/bin", "A=image"],
    workingDir: "/srv",
    user: "web",
    files: [
      { kind: "file", path: "etc/passwd", data: encoder.encode(PASSWD) },
      { kind: "directory", path: "srv", mode: 0o777 },
    ],
  });
}

/** Writes an image into the bed; the same again is the same. */
async function archived({ bed }: BedContext, name: string, image: ImageDescription) {
  const path = `${bed.directory}/${name}.tar`;
  await Deno.writeFile(path, await imageArchive(image));
  return path;
}

async function moduleImage(): Promise<ImageDescription> {
  const module = await Deno.readFile(`${GUESTS_BUILD_DIR}/args.wasm`);
  return wasmImage("quasaur.test/args:1", module, { cmd: ["own"], env: ["A=image"] });
}

/** Where images of the bed are; its sandboxers may read there. */
function imagesOf({ bed }: BedContext): string {
  return `${bed.directory}/cache/images`;
}

/** Runs `quasaur run` through a sandboxer of the bed. */
async function runThrough(
  context: BedContext,
  kind: "wasm" | "gvisor",
  args: readonly string[],
  input = "",
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const outputs = { stdout: "", stderr: "" };
  const through: ThroughPorts = {
    ...THROUGH_PORTS,
    images: { directory: imagesOf(context) },
    print: (words) => void (outputs.stdout += words),
    streams: {
      input: () => new Blob([input]).stream(),
      output: (bytes) => Promise.resolve(void (outputs.stdout += text(bytes))),
      error: (bytes) => Promise.resolve(void (outputs.stderr += text(bytes))),
    },
  };
  const refuse = () => Promise.reject(new Error("nothing is to run in this process"));
  let code = -1;
  const end = (ended: number) => void (code = ended);
  const command = kind === "wasm"
    ? runWasmCommand(end, { open: refuse, through })
    : runGvisorCommand(end, { open: refuse, terminal: () => undefined, through });
  const name = kind === "wasm" ? "wasm" : "quark";
  const address = context.bed.sandboxer(name).paths.socketPath;
  const program = addAddress(new Command("quasaur")).enablePositionalOptions().addCommand(command);
  await program.parseAsync(["--address", address, kind, ...args], { from: "user" });
  return { code, ...outputs };
}

test("an image runs over gVisor as it says, from an archive and from containerd", async (context) => {
  const { bed } = context;
  const image = await linuxImage("quasaur.test/linux:1");
  await bed.containerd.importImage(image);
  await using sandboxer = await open("gvisor", {
    directory: `${bed.directory}/embedded`,
    images: {
      directory: imagesOf(context),
      containerd: { address: bed.containerd.socketPath },
    },
  });
  await using sandbox = await sandboxer.createSandbox();
  const run = async (name: string, more: { readonly command?: readonly string[] } = {}) => {
    await using container = await sandbox.run({ image: name, ...more, env: { B: "mine" } });
    const { exit, stdout, stderr } = await container.output();
    return { status: exit.status, stdout: text(stdout), stderr: text(stderr) };
  };
  const archive = await archived(context, "linux", image);
  const script = "id -u; id -g; pwd; echo $A $B $HOME; echo written > /srv/x; cat /srv/x; exit 7";
  for (const name of [archive, "quasaur.test/linux:1", "containerd://quasaur.test/linux:1"]) {
    const { status, stdout, stderr } = await run(name, { command: [script] });
    assert.equal(stdout, "33\n34\n/srv\nimage mine /srv\nwritten\n", stderr);
    assert.equal(status, 7);
  }
  assert.equal((await run(archive)).stdout, "by itself\n");
  // Another container sees nothing of what the first has written.
  assert.equal((await run(archive, { command: ["echo /srv/*"] })).stdout, "/srv/*\n");
  const missing = run("quasaur.test/missing:1");
  await assert.rejects(missing, {
    code: "NotFound",
    message: /images pull quasaur\.test\/missing:1/,
  });
});

test("nothing is mounted any more, and nothing written is left", async ({ bed }) => {
  assert.deepEqual(await mountsBelow(`${bed.directory}/embedded`), []);
  const left: string[] = [];
  for await (const { name } of Deno.readDir(`${bed.directory}/embedded`)) {
    if (name.startsWith("p-")) left.push(name);
  }
  assert.deepEqual(left, []);
});

test("the module of an image runs in this process, and what it writes is its own", async (context) => {
  const archive = await archived(context, "args", await moduleImage());
  await using sandboxer = await open("wasm", { images: { directory: imagesOf(context) } });
  await using sandbox = await sandboxer.createSandbox();
  const run = async (args?: readonly string[]) => {
    await using container = await sandbox.run({ image: archive, ...(args && { args }) });
    return text((await container.output()).stdout).split("\n").filter((line) => !/PWD/.test(line));
  };
  assert.deepEqual(await run(), ["arg /app.wasm", "arg own", "env A=image", ""]);
  assert.deepEqual(await run(["x", "y"]), ["arg /app.wasm", "arg x", "arg y", "env A=image", ""]);
});

test("run wasm through a sandboxer takes modules and images", async (context) => {
  const archive = await archived(context, "args", await moduleImage());
  const cat = `${GUESTS_BUILD_DIR}/cat.wasm`;
  assert.deepEqual(await runThrough(context, "wasm", ["--rm", cat], "input\n"), {
    code: 0,
    stdout: "input\n",
    stderr: "",
  });
  const args = ["--rm", "-e", "EXIT_CODE=42", "-w", "/", archive, "--", "x"];
  const ended = await runThrough(context, "wasm", args);
  assert.match(ended.stdout, /^arg \/app\.wasm\narg x\n/);
  assert.match(ended.stdout, /^env A=image$/m);
  assert.equal(ended.code, 42);
  const trap = `${GUESTS_BUILD_DIR}/trap.wasm`;
  assert.equal((await runThrough(context, "wasm", ["--rm", trap, "unreachable"])).code, 134);
  await assert.rejects(runThrough(context, "wasm", ["./none.wasm"]), { code: "NotFound" });
  const staging = `${context.bed.sandboxer("wasm").paths.stateDirectory}/staging`;
  assert.deepEqual(await Array.fromAsync(Deno.readDir(staging)), []);
});

test("run -d prints an id, and what runs goes on with name, label and image", async (context) => {
  const { bed } = context;
  const sleep = `${GUESTS_BUILD_DIR}/sleep.wasm`;
  const { code, stdout } = await runThrough(context, "wasm", [
    ...["-d", "--name", "sleeper", "--label", "app=a", "--isolation", "process", sleep],
  ]);
  assert.equal(code, 0);
  using client = new ManagementClient(bed.sandboxer("wasm").paths.socketPath);
  const [sandbox] = await client.list({ labels: { app: "a" } });
  assert.equal(sandbox?.id, stdout.trim());
  assert.equal(sandbox.name, "sleeper");
  assert.equal(sandbox.annotations["quasaur.dev/isolation"], "process");
  assert.equal(sandbox.containers[0]?.image, sleep);
  await assert.rejects(runThrough(context, "wasm", ["-d", "--name", "sleeper", sleep]), {
    code: "AlreadyExists",
  });
  await client.remove({ target: "sleeper", force: true });
});

test("run gvisor through a sandboxer gives each container a layer of its own", async (context) => {
  const archive = await archived(context, "linux", await linuxImage("quasaur.test/linux:1"));
  const script = "id -u; pwd; ls -d /srv; cat; echo mine > /srv/x; echo no >&2; exit 9";
  const ended = await runThrough(context, "gvisor", ["--rm", archive, "--", script], "input\n");
  assert.deepEqual(ended, { code: 9, stdout: "33\n/srv\n/srv\ninput\n", stderr: "no\n" });
  const again = await runThrough(context, "gvisor", [
    ...["--rm", "--read-only", "-u", "root", "--hostname", "box", archive],
    ...["--", "echo /srv/*; hostname; id -u; echo x > /srv/x"],
  ]);
  assert.equal(again.stdout, "/srv/*\nbox\n0\n");
  assert.match(again.stderr, /Read-only file system/);
  const late = await runThrough(context, "gvisor", [
    ...["--rm", "--timeout", "3s", archive, "--", "exec sleep 1000"],
  ]);
  assert.equal(late.code, 124);
  using client = new ManagementClient(context.bed.sandboxer("quark").paths.socketPath);
  await waitFor("sandboxes to be removed", async () => (await client.list()).length === 0);
});
