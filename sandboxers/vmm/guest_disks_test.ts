import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { GuestDisks } from "./guest_disks.ts";

const signal = new AbortController().signal;

/** A machine that counts. */
function machine() {
  const attached = new Map<string, string>();
  let last = 0;
  return {
    attached,
    failing: false,
    attachDisk({ path }: { readonly path: string }) {
      const serial = `slot${last++}`;
      attached.set(serial, path);
      return Promise.resolve({ serial });
    },
    detachDisk(serial: string) {
      if (this.failing) return Promise.reject(new SandboxError("Internal", "no"));
      attached.delete(serial);
      return Promise.resolve();
    },
  };
}

Deno.test("containers with the same image share a disk until the last is gone", async () => {
  const vm = machine();
  const disks = new GuestDisks(vm);
  const serials = await Promise.all([
    disks.use("a", "/1", signal),
    disks.use("a", "/2", signal),
    disks.use("b", "/3", signal),
  ]);
  assert.equal(serials[0], serials[1]);
  assert.deepEqual([...vm.attached.values()], ["/1", "/3"]);
  await disks.release("a");
  assert.equal(vm.attached.size, 2);
  await disks.release("a");
  assert.deepEqual([...vm.attached.values()], ["/3"]);
  await disks.release("a");
  assert.notEqual(await disks.use("a", "/4", signal), serials[0]);
});

Deno.test("a disk that cannot be taken away is tried again", async () => {
  const vm = machine();
  const disks = new GuestDisks(vm);
  await disks.use("a", "/1", signal);
  vm.failing = true;
  await assert.rejects(disks.release("a"));
  vm.failing = false;
  await disks.release("a");
  assert.equal(vm.attached.size, 0);
});

Deno.test("uses that an earlier process had begun count", async () => {
  const vm = machine();
  const disks = new GuestDisks(vm);
  disks.keep("a", "slot7");
  disks.keep("a", "slot7");
  assert.equal(await disks.use("a", "/1", signal), "slot7");
  await disks.release("a");
  await disks.release("a");
  assert.equal(await disks.use("a", "/1", signal), "slot7");
});
