import assert from "node:assert/strict";
import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { TtrpcClient } from "../../../task/ttrpc/client.ts";
import { TtrpcServer } from "../../../task/ttrpc/server.ts";
import { DoubleTasks } from "./task_service.ts";

const SANDBOX = "f".repeat(64);
const GOOD = {
  process: { args: ["sh"], user: {} },
  root: { path: "rootfs" },
  annotations: { "io.kubernetes.cri.container-type": "container" },
  linux: {},
};

/** The service in this process, with a bundle that tests write to. */
class Service implements AsyncDisposable {
  private constructor(
    readonly bundle: string,
    readonly client: TtrpcClient,
    readonly server: TtrpcServer,
  ) {}

  static async make(): Promise<Service> {
    const bundle = await Deno.makeTempDir({ prefix: "quasaur-double-" });
    const tasks = new DoubleTasks({
      bundle,
      id: SANDBOX,
      config: { Sandboxed: true, ShimMode: false },
    });
    const server = new TtrpcServer().add(Task, tasks.handlers());
    await server.listen(`${bundle}/s.sock`);
    return new Service(bundle, await TtrpcClient.connect(`${bundle}/s.sock`), server);
  }

  /** How a Create is refused. */
  async refusal(document: unknown, request = {}): Promise<string> {
    await Deno.mkdir(`${this.bundle}/c1/rootfs`, { recursive: true });
    await Deno.writeTextFile(`${this.bundle}/c1/config.json`, JSON.stringify(document));
    try {
      await this.client.call(Task.method.create, { id: "c1", ...request });
    } catch (error) {
      return SandboxError.from(error).message;
    }
    return "";
  }

  async [Symbol.asyncDispose]() {
    this.client.close();
    await this.server.close();
    await Deno.remove(this.bundle, { recursive: true });
  }
}

Deno.test("the double refuses containers that do not follow Quark's contract", async () => {
  await using service = await Service.make();
  const unbound = /no root file system is bound at \/c1\/rootfs/;
  assert.match(await service.refusal(GOOD), unbound);
  assert.match(await service.refusal({ ...GOOD, root: { path: "/abs" } }), /root.path is \/abs/);
  assert.match(await service.refusal({ ...GOOD, annotations: {} }), /none of a sandbox/);
  assert.match(await service.refusal({ root: {} }), /missing field `process`/);
  const seccomp = { defaultAction: "SCMP_ACT_LOG" };
  assert.match(await service.refusal({ ...GOOD, linux: { seccomp } }), /SCMP_ACT_LOG/);
  assert.match(await service.refusal(GOOD, { id: SANDBOX }), /called like its sandbox/);
  assert.match(await service.refusal(GOOD, { id: "a/b" }), /id a\/b is not valid/);
  assert.match(await service.refusal(GOOD, { rootfs: [{ type: "bind" }] }), /mounts of the host/);
  assert.match(await service.refusal(GOOD, { id: "c2" }), /No such file/);
  const gone = service.client.call(Task.method.start, { id: "c1" });
  await assert.rejects(gone, (error: unknown) => SandboxError.from(error).code === "NotFound");
});
