import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  type InfoResponse,
  InfoResponseSchema,
  type RestoreResponse,
  RestoreResponseSchema,
} from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { type ErrorCode, SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { restoreCommand } from "./snapshot.ts";
import { FakeClient, FakePorts, runCommandWith } from "./testing/fake_fleet.ts";

/** A sandboxer that makes a sandbox of any snapshot, or of none. */
class Restorer extends FakeClient {
  constructor(readonly kind: string, readonly refusal?: ErrorCode) {
    super();
  }

  override info(): Promise<InfoResponse> {
    const capabilities = { restore: this.kind !== "wasm" };
    return Promise.resolve(create(InfoResponseSchema, { kind: this.kind, capabilities }));
  }

  override restore(): Promise<RestoreResponse> {
    this.calls.push(["restore", this.kind]);
    if (this.refusal !== undefined) {
      return Promise.reject(new SandboxError(this.refusal, `refused by ${this.kind}`));
    }
    return Promise.resolve(create(RestoreResponseSchema, { sandboxId: `of-${this.kind}` }));
  }
}

async function restore(clients: readonly Restorer[], ...args: string[]) {
  const ports = new FakePorts(clients);
  const code = await runCommandWith(restoreCommand, ports, [...args, "/saved"]);
  return { code, output: ports.said.output, errors: ports.said.errors.join("\n") };
}

Deno.test("restore finds the sandboxer whose snapshot it is among those that can", async () => {
  const vmm = new Restorer("vmm", "PermissionDenied");
  const quark = new Restorer("quark");
  const wasm = new Restorer("wasm");
  assert.equal((await restore([wasm, vmm, quark])).output, "of-quark\n");
  assert.deepEqual([wasm, vmm, quark].map(({ calls }) => calls.length), [0, 1, 1]);
  const both = await restore([vmm, new Restorer("quark", "FailedPrecondition")]);
  assert.equal(both.code, 1);
  assert.match(both.errors, /vmm says: refused by vmm; quark says: refused by quark: say whose/);
});

Deno.test("restore asks only the kind that is named, and nobody after a failure that counts", async () => {
  const vmm = new Restorer("vmm", "PermissionDenied");
  const quark = new Restorer("quark");
  const named = await restore([vmm, quark], "--kind", "vmm");
  assert.deepEqual([named.code, quark.calls.length], [1, 0]);
  assert.match(named.errors, /refused by vmm/);
  const full = await restore([new Restorer("vmm", "ResourceExhausted"), quark]);
  assert.deepEqual([full.code, quark.calls.length], [1, 0]);
  assert.match((await restore([new Restorer("wasm")])).errors, /none can make sandboxes of saved/);
});
