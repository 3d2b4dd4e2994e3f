import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { noLog } from "../../log.ts";
import {
  type AcceleratorOptions,
  chooseAccelerator,
  type StubEnd,
  type StubRun,
} from "./accelerator.ts";
import { STUB_STATUS } from "./stub_guest.ts";

const NEVER = new AbortController().signal;
const GOOD = { bootId: "boot-1", kvm: true, kvmPvm: false };
const RAN: StubEnd = { status: STUB_STATUS, message: "" };
const LATE: StubEnd = { status: undefined, message: "" };

/** Chooses on a host that is made up; takes note of the guests that ran and of measurements. */
class Host {
  readonly runs: string[] = [];
  measured = 0;

  constructor(readonly directory: string, readonly ends: StubEnd[] = []) {}

  async choose(options: Partial<AcceleratorOptions> = {}) {
    return await chooseAccelerator({
      wanted: "auto",
      facts: GOOD,
      hypervisor: "qemu 1",
      runStub: ({ accelerator }: StubRun) => {
        this.runs.push(accelerator);
        const end = this.ends.shift();
        assert.ok(end, "a guest ran that was not expected");
        return Promise.resolve(end);
      },
      measureTsc: () => {
        this.measured++;
        return Promise.resolve(2_600_000);
      },
      memoryFile: `${this.directory}/accelerator.json`,
      log: noLog,
      ...options,
    }, NEVER);
  }
}

function test(name: string, body: (directory: string) => Promise<void>): void {
  Deno.test(name, async () => {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-accelerator-" });
    try {
      await body(directory);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

test("KVM is chosen where a guest ran with it", async (directory) => {
  const host = new Host(directory, [RAN]);
  const chosen = await host.choose();
  assert.equal(chosen.accelerator, "kvm");
  assert.equal(chosen.tscKhz, 2_600_000);
  assert.deepEqual(host.runs, ["kvm"]);
});

test("without /dev/kvm, and with a KVM that is known to crawl, no guest is run", async (directory) => {
  const host = new Host(directory);
  const closed = await host.choose({ facts: { ...GOOD, kvm: false } });
  assert.equal(closed.accelerator, "tcg");
  assert.match(closed.why, /\/dev\/kvm/);
  const crawling = await host.choose({ facts: { ...GOOD, bootId: "boot-2", kvmPvm: true } });
  assert.equal(crawling.accelerator, "tcg");
  assert.match(crawling.why, /kvm_pvm/);
  assert.deepEqual(host.runs, []);
});

test("a guest that does not end with KVM but does with TCG decides for TCG", async (directory) => {
  const host = new Host(directory, [LATE, RAN]);
  const chosen = await host.choose();
  assert.equal(chosen.accelerator, "tcg");
  assert.match(chosen.why, /did not end with KVM/);
  assert.deepEqual(host.runs, ["kvm", "tcg"]);
});

test("on a host that is so busy that TCG is slow too, KVM gets longer", async (directory) => {
  const host = new Host(directory);
  const ends = [LATE, RAN, RAN];
  const times: number[] = [];
  const chosen = await host.choose({
    runStub: async ({ accelerator, timeoutMs }) => {
      times.push(timeoutMs);
      if (accelerator === "tcg") await new Promise((resolve) => setTimeout(resolve, 300));
      return ends.shift() ?? LATE;
    },
  });
  assert.equal(chosen.accelerator, "kvm");
  assert.equal(times.length, 3);
  assert.ok((times[2] ?? 0) > (times[0] ?? 0), times.join(", "));
});

test("a VMM that refuses KVM decides for TCG, and says why", async (directory) => {
  const host = new Host(directory, [{ status: 1, message: "Could not access KVM kernel module" }]);
  const chosen = await host.choose();
  assert.equal(chosen.accelerator, "tcg");
  assert.match(chosen.why, /Could not access KVM/);
});

test("a VMM that cannot run anything is an error", async (directory) => {
  const host = new Host(directory, [LATE, { status: 1, message: "no such machine" }]);
  await assert.rejects(
    host.choose(),
    (error) =>
      error instanceof SandboxError && error.code === "FailedPrecondition" &&
      /neither with KVM nor with TCG: no such machine/.test(error.message),
  );
});

test("what the configuration says is taken at its word", async (directory) => {
  const host = new Host(directory);
  assert.equal((await host.choose({ wanted: "tcg" })).accelerator, "tcg");
  assert.equal((await host.choose({ wanted: "kvm" })).accelerator, "kvm");
  assert.deepEqual(host.runs, []);
});

test("KVM that is asked for and not there is an error that says what to do", async (directory) => {
  const host = new Host(directory);
  await assert.rejects(
    host.choose({ wanted: "kvm", facts: { ...GOOD, kvm: false } }),
    /cannot use KVM: \/dev\/kvm cannot be opened: .*hypervisor\.accelerator/,
  );
});

test("a choice is remembered until the host, the VMM or the wish is another", async (directory) => {
  const host = new Host(directory, [RAN, LATE, RAN, RAN]);
  const first = await host.choose();
  assert.deepEqual(await host.choose(), first);
  assert.deepEqual(host.runs, ["kvm"]);
  assert.equal(host.measured, 1);
  assert.equal((await host.choose({ facts: { ...GOOD, bootId: "boot-2" } })).accelerator, "tcg");
  assert.equal((await host.choose({ hypervisor: "qemu 2" })).accelerator, "kvm");
  assert.equal((await host.choose({ wanted: "tcg" })).accelerator, "tcg");
});

test("a damaged memory is found out again, and without a boot id nothing is remembered", async (directory) => {
  const host = new Host(directory, [RAN, RAN, RAN, RAN]);
  await host.choose();
  for (
    const text of ["", "{", "null", '{"bootId":"boot-1","hypervisor":"qemu 1","wanted":"auto"}']
  ) {
    await Deno.writeTextFile(`${directory}/accelerator.json`, text);
    host.ends.push(RAN);
    host.runs.length = 0;
    await host.choose();
    assert.deepEqual(host.runs, ["kvm"], text);
  }
  const facts = { ...GOOD, bootId: "" };
  host.runs.length = 0;
  await host.choose({ facts });
  await host.choose({ facts });
  assert.deepEqual(host.runs, ["kvm", "kvm"]);
});

test("a memory that cannot be written fails nothing", async (directory) => {
  const host = new Host(directory, [RAN]);
  const chosen = await host.choose({ memoryFile: `${directory}/missing/accelerator.json` });
  assert.equal(chosen.accelerator, "kvm");
});

test("who gave up before is told so", async (directory) => {
  const host = new Host(directory);
  const signal = AbortSignal.abort();
  const options: AcceleratorOptions = {
    wanted: "auto",
    facts: GOOD,
    hypervisor: "qemu 1",
    runStub: () => Promise.reject(new Error("not reached")),
    measureTsc: () => Promise.resolve(1),
    memoryFile: `${host.directory}/accelerator.json`,
    log: noLog,
  };
  await assert.rejects(chooseAccelerator(options, signal), /cannot choose an accelerator/);
});
