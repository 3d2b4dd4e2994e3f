/**
 * `deno task demo`: shows a WebAssembly container, a microVM and a pod of gVisor running: from real
 * OCI images, in pods that stock containerd runs through the sandboxers; and once more without
 * containerd, from the command line.
 * Everything runs in a directory of its own, which is gone at the end.
 *
 * @module
 */

import assert from "node:assert/strict";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { Bed } from "../tests/support/bed.ts";
import { withLogs } from "../tests/support/bed_tests.ts";
import { run } from "../tests/support/command.ts";
import type { Cri, Pod } from "../tests/support/cri.ts";
import { httpGet } from "../tests/support/http.ts";
import { waitFor } from "../tests/support/wait.ts";
import { busyboxImage, wasmImage } from "../tests/support/oci_image.ts";
import { REPOSITORY } from "../tests/support/permissions.ts";
import { setUp, setupLogPath } from "./setup.ts";
import { GUESTS_DIRECTORY } from "./setup/build.ts";
import { Progress } from "./setup/progress.ts";

/** The images, made on the spot. */
const IMAGES = { args: "demo.quasaur/args:1", server: "demo.quasaur/server:1" };

/** The image for the microVM and for gVisor: an ordinary one. */
const LINUX_IMAGE = "demo.quasaur/busybox:1";

/** The port on which the demo's server listens, in its pod. */
const PORT = 8080;

/** Tells each step with the time it took. */
class Teller {
  constructor(readonly progress: Progress) {}

  /** Runs one step. */
  async step<T>(title: string, action: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    const result = await action();
    const ms = `${Math.round(performance.now() - begin)} ms`;
    this.progress.line(`  ${title.padEnd(72)} ${ms.padStart(9)}`);
    return result;
  }

  /** Shows what a guest said. */
  quote(lines: readonly string[]): void {
    for (const line of lines) this.progress.line(`      | ${line}`);
  }
}

/** Shows a container that runs to its end. */
async function showJob(cri: Cri, teller: Teller): Promise<void> {
  await using pod = await teller.step(
    "RunPodSandbox: a pod on the host's network",
    () => cri.runPod({ handler: "quasaur-wasm" }),
  );
  const container = await teller.step(
    "CreateContainer: /app.wasm of that image, with arguments",
    () =>
      pod.createContainer({
        image: IMAGES.args,
        args: ["hello", "from", "WebAssembly"],
        env: { EXIT_CODE: "3" },
      }),
  );
  await teller.step("StartContainer", () => container.start());
  const { exitCode } = await teller.step("The container has ended", () => container.exited());
  const { stdout } = await container.log();
  teller.quote([...stdout, `exit code ${exitCode}`]);
  assert.equal(exitCode, 3);
  assert.ok(stdout.includes("arg WebAssembly"));
  await teller.step("StopPodSandbox, RemovePodSandbox", () => cri.removePod(pod.id));
}

/** Shows a container that serves. */
async function showServer(cri: Cri, teller: Teller): Promise<void> {
  await using pod = await teller.step(
    "RunPodSandbox: a pod with a network of its own (CNI bridge)",
    () => cri.runPod({ handler: "quasaur-wasm", network: "pod" }),
  );
  const container = await teller.step(
    "CreateContainer, StartContainer: an HTTP server in WebAssembly",
    () =>
      pod.startContainer({
        image: IMAGES.server,
        args: [String(PORT)],
        env: { ID: "a wasm guest" },
      }),
  );
  await container.printed(`listening on ${PORT}`);
  const ip = await pod.ip();
  const answer = await teller.step(`GET http://${ip}:${PORT}/`, () => httpGet(ip, PORT));
  teller.quote([answer.trim()]);
  assert.equal(answer, "hello from a wasm guest\n");
  await teller.step("StopContainer: SIGTERM to the guest", () => container.stop(2));
  await teller.step("StopPodSandbox, RemovePodSandbox", () => cri.removePod(pod.id));
}

/** Shows a pod that is a microVM. */
async function showMicroVm(cri: Cri, teller: Teller): Promise<void> {
  cri.network = "pod";
  {
    await using _first = await teller.step(
      "RunPodSandbox: the first microVM; a template is booted and saved",
      () => cri.runPod({ handler: "quasaur-vmm" }),
    );
  }
  await using pod = await teller.step(
    "RunPodSandbox: a microVM with a network, cloned from the template",
    () => cri.runPod({ handler: "quasaur-vmm" }),
  );
  await showLinuxServer(cri, teller, pod, { name: "a microVM", kernel: "uname -r" });
}

/** Shows a pod over an application kernel. */
async function showGvisor(cri: Cri, teller: Teller): Promise<void> {
  cri.network = "pod";
  await using pod = await teller.step(
    "RunPodSandbox: a pod of gVisor with a network",
    () => cri.runPod({ handler: "quasaur-gvisor" }),
  );
  await showLinuxServer(cri, teller, pod, { name: "gVisor", kernel: "dmesg | sed -n 's/.*] //p'" });
}

/** Shows a container of an ordinary image that serves, in a pod with a network of its own. */
async function showLinuxServer(
  cri: Cri,
  teller: Teller,
  pod: Pod,
  { name, kernel }: { readonly name: string; readonly kernel: string },
): Promise<void> {
  const script = `${kernel} | head -n 1; mkdir /www; echo hello from ${name} >/www/index.html; ` +
    `echo listening; exec httpd -f -p ${PORT} -h /www`;
  const container = await teller.step(
    "CreateContainer, StartContainer: busybox's web server in it",
    () => pod.startContainer({ image: LINUX_IMAGE, command: ["/bin/sh", "-c", script] }),
  );
  await container.printed("listening");
  const { stdout: [found = ""] } = await container.log();
  teller.quote([`kernel inside: ${found}`, `kernel of this host: ${Deno.osRelease()}`]);
  const ip = await pod.ip();
  // It says so before it does: for a moment after that nobody listens yet.
  const answer = await teller.step(
    `GET http://${ip}:${PORT}/`,
    () => waitFor("an answer", () => httpGet(ip, PORT)),
  );
  teller.quote([answer.trim()]);
  assert.equal(answer, `hello from ${name}\n`);
  const { stdout } = await teller.step("Exec: ps", () => container.exec(["/bin/busybox", "ps"]));
  teller.quote(stdout.trimEnd().split("\n"));
  await teller.step("StopPodSandbox, RemovePodSandbox", () => cri.removePod(pod.id));
}

/** Shows what containerd does. */
async function showContainerd(teller: Teller): Promise<void> {
  teller.progress.line("\nWith stock containerd, through CRI:");
  await using bed = await teller.step(
    "A private containerd and the sandboxers wasm, vmm and quark are up",
    () => Bed.start({ kinds: ["wasm", "vmm", "quark"], logLevel: "info" }),
  );
  using _interrupt = onInterrupt(async () => await bed[Symbol.asyncDispose]());
  await withLogs(bed, async () => {
    await teller.step("Two OCI images are made of two modules, and imported", async () => {
      for (const [name, reference] of Object.entries(IMAGES)) {
        const module = await Deno.readFile(`${GUESTS_DIRECTORY}/${name}.wasm`);
        await bed.containerd.importImage(wasmImage(reference, module));
      }
    });
    await bed.containerd.importImage(await busyboxImage(LINUX_IMAGE));
    using cri = bed.cri();
    await showJob(cri, teller);
    await showServer(cri, teller);
    await showMicroVm(cri, teller);
    await showGvisor(cri, teller);
  });
}

/** Shows the same module without containerd. */
async function showCommandLine(teller: Teller): Promise<void> {
  teller.progress.line("\nWithout containerd, in one process:");
  const file = `${GUESTS_DIRECTORY}/args.wasm`;
  const quasaur = [Deno.execPath(), "run", "-q", "-P=cli", "cli/main.ts"] as const;
  const { status, stdout, stderr } = await teller.step(
    "quasaur run wasm --env EXIT_CODE=3 args.wasm -- hello again",
    () =>
      run([...quasaur, "run", "wasm", "--env", "EXIT_CODE=3", file, "--", "hello", "again"], {
        cwd: REPOSITORY,
        check: false,
      }),
  );
  teller.quote([...stdout.trim().split("\n"), `exit code ${status}`]);
  assert.equal(status, 3, stderr);
  assert.match(stdout, /^arg again$/m);
}

/** Cleans up and ends when somebody presses Ctrl-C. */
function onInterrupt(cleanUp: () => Promise<void>): Disposable {
  const listener = () => {
    cleanUp().finally(() => Deno.exit(130));
  };
  Deno.addSignalListener("SIGINT", listener);
  return { [Symbol.dispose]: () => Deno.removeSignalListener("SIGINT", listener) };
}

if (import.meta.main) {
  const progress = new Progress(setupLogPath());
  const teller = new Teller(progress);
  try {
    await setUp({ purposes: ["demo"] }, progress);
    await showContainerd(teller);
    await showCommandLine(teller);
    progress.line("\nAll of it worked, and all of it is cleaned up.");
  } catch (error) {
    progress.line(`\nThe demo failed: ${SandboxError.from(error).message}`);
    Deno.exit(1);
  }
}
