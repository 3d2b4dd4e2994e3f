import assert from "node:assert/strict";
import { type GvisorSandboxer, open } from "../mod.ts";
import { BusyboxRootfs } from "./support/busybox_rootfs.ts";

async function openGvisor(warnings: string[]): Promise<GvisorSandboxer> {
  return await open("gvisor", {
    onWarning: (message, fields) => warnings.push(`${message} ${fields?.["error"] ?? ""}`),
  });
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

Deno.test("a program runs commands over gVisor: streams, processes, signals, stats", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox({ hostname: "box" });
  await using first = await sandbox.run({
    rootfs: rootfs.path,
    command: ["sh", "-c", "read line; echo got $line; exec sleep 1000"],
    stdin: "piped",
  });
  const writer = first.stdin.getWriter();
  await writer.write(new TextEncoder().encode("hello\n"));
  const reader = first.stdout.getReader();
  assert.equal(text((await reader.read()).value ?? new Uint8Array()), "got hello\n");
  {
    await using process = await first.exec({ command: ["sh", "-c", "hostname; exit 4"] });
    const { exit, stdout } = await process.output();
    assert.equal(text(stdout), "box\n");
    assert.equal(exit.status, 4);
  }
  assert.ok((await first.stats()).memoryBytes > 0);
  assert.ok((await sandbox.stats()).memoryBytes > 1 << 20);
  await first.pause();
  await first.resume();
  await using second = await sandbox.run({ rootfs: rootfs.path, command: ["cat", "/proc/1/comm"] });
  assert.equal(text((await second.output()).stdout), "cat\n");
  await first.kill("SIGKILL");
  assert.equal((await first.exit).status, 137);
  assert.deepEqual(warnings, []);
});

Deno.test("a program's processes over gVisor have terminals, with a size that changes", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox();
  const script =
    "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.1; done";
  await using container = await sandbox.run({
    rootfs: rootfs.path,
    command: ["sh", "-c", script],
    terminal: { columns: 91, rows: 33 },
  });
  let seen = "";
  let resized = false;
  for await (const chunk of container.stdout.pipeThrough(new TextDecoderStream())) {
    seen += chunk;
    if (resized || !seen.includes("ready")) continue;
    resized = true;
    await container.resize({ columns: 100, rows: 40 });
  }
  assert.deepEqual(seen.split("\r\n"), ["33 91", "ready", "40 100", ""]);
  assert.equal((await container.exit).status, 0);
  assert.deepEqual(warnings, []);
});

Deno.test("a program over gVisor reads its output to the end, also late, and is told what fails", async () => {
  await using rootfs = await BusyboxRootfs.make();
  const warnings: string[] = [];
  await using sandboxer = await openGvisor(warnings);
  await using sandbox = await sandboxer.createSandbox();
  const command = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done"];
  await using container = await sandbox.run({ rootfs: rootfs.path, command });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { stdout, exit } = await container.output();
  assert.equal(exit.status, 0);
  assert.equal(text(stdout).split("\n").at(-2), "line 29999");
  const run = (command: string[]) => sandbox.run({ rootfs: rootfs.path, command });
  await assert.rejects(run(["/nonexistent"]), {
    code: "InvalidArgument",
    message: /"\/nonexistent": no such file/,
  });
  await assert.rejects(sandbox.run({ rootfs: "/etc/hosts", command: ["true"] }), {
    code: "InvalidArgument",
    message: /"\/etc\/hosts": it is no directory/,
  });
  assert.deepEqual(warnings, []);
});
