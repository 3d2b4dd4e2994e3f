import assert from "node:assert/strict";
import type { GvisorRunOptions } from "./gvisor_api.ts";
import { EmbeddedGvisorSandboxer } from "./gvisor_sandboxer.ts";
import { ScriptDriver } from "./testing/script_driver.ts";

/** A sandboxer on scripts. */
function newSandboxer() {
  const driver = new ScriptDriver();
  const loaded = { driver, [Symbol.asyncDispose]: () => Promise.resolve() };
  return { driver, sandboxer: new EmbeddedGvisorSandboxer(loaded, {}) };
}

Deno.test("a sandbox of gVisor runs containers and further processes, and ends them with itself", async () => {
  const { driver, sandboxer } = newSandboxer();
  await using _sandboxer = sandboxer;
  const sandbox = await sandboxer.createSandbox({ network: { kind: "host" }, hostname: "box" });
  const container = await sandbox.run({ rootfs: "/tmp", command: ["sleep"] });
  await using process = await container.exec({ command: ["echo", "hello"] });
  assert.equal(new TextDecoder().decode((await process.output()).stdout), "hello\n");
  await sandbox[Symbol.asyncDispose]();
  assert.equal((await container.exit).status, 137);
  assert.deepEqual(driver.sandboxes[0]?.network, { kind: "host" });
  await assert.rejects(sandbox.run({ rootfs: "/tmp", command: ["exit"] }), {
    code: "FailedPrecondition",
  });
});

Deno.test("a root file system that cannot be one is refused before gVisor sees it", async () => {
  const { driver, sandboxer } = newSandboxer();
  await using _sandboxer = sandboxer;
  await using sandbox = await sandboxer.createSandbox();
  const wrong: [Partial<GvisorRunOptions>, string, RegExp][] = [
    [{ rootfs: "" }, "InvalidArgument", /expected rootfs, a directory/],
    [{ rootfs: "/nonexistent" }, "NotFound", /"\/nonexistent": no such directory/],
    [{ rootfs: "/etc/passwd" }, "InvalidArgument", /"\/etc\/passwd": it is no directory/],
    [{ rootfs: "/tmp", command: [] }, "InvalidArgument", /command ""/],
  ];
  for (const [options, code, message] of wrong) {
    const whole = { rootfs: "/tmp", command: ["exit"], ...options };
    await assert.rejects(sandbox.run(whole), { code, message });
  }
  assert.deepEqual(driver.containers, []);
});
