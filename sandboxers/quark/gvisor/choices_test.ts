import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { noLog } from "../../log.ts";
import { chooseNetwork, type NetworkOptions } from "./network.ts";
import { type ChoiceOptions, choosePlatform } from "./platform.ts";
import type { ProbeRun } from "./probe.ts";
import type { Platform } from "./runsc_options.ts";

const NEVER = new AbortController().signal;

/** A host that is made up: what works on it, and what was tried. */
class Host implements AsyncDisposable {
  readonly tried: string[] = [];
  isBusy = false;

  private constructor(readonly directory: string, readonly works: (run: ProbeRun) => boolean) {}

  static async where(works: (run: ProbeRun) => boolean): Promise<Host> {
    return new Host(await Deno.makeTempDir({ prefix: "quasaur-runsc-test-" }), works);
  }

  base() {
    return {
      facts: { bootId: "boot-1", kvm: true },
      runsc: "runsc 1",
      probe: (run: ProbeRun) => {
        const { platform, network, hidesNetworkSettings } = run;
        this.tried.push(`${platform} ${network}${hidesNetworkSettings === true ? " hidden" : ""}`);
        const works = this.works(run);
        const isLate = !works && this.isBusy;
        return Promise.resolve({ works, message: works ? "" : "no luck", isLate });
      },
      log: noLog,
    };
  }

  async platform(more: Partial<ChoiceOptions<Platform>> = {}) {
    const memoryFile = `${this.directory}/deep/platform.json`;
    return await choosePlatform({ ...this.base(), wanted: "auto", memoryFile, ...more }, NEVER);
  }

  async network(more: Partial<NetworkOptions> = {}) {
    const memoryFile = `${this.directory}/network.json`;
    const platform = "systrap";
    return await chooseNetwork(
      { ...this.base(), wanted: "auto", platform, memoryFile, ...more },
      NEVER,
    );
  }

  async [Symbol.asyncDispose]() {
    await Deno.remove(this.directory, { recursive: true });
  }
}

function fails(code: string, message: RegExp) {
  return (error: unknown) =>
    error instanceof SandboxError && error.code === code && message.test(error.message);
}

Deno.test("systrap is chosen where it works, without trying anything else", async () => {
  await using host = await Host.where(() => true);
  assert.equal((await host.platform()).platform, "systrap");
  assert.deepEqual(host.tried, ["systrap none"]);
});

Deno.test("ptrace is chosen where systrap does not work, and says why", async () => {
  await using host = await Host.where(({ platform }) => platform === "ptrace");
  const { platform, why } = await host.platform();
  assert.equal(platform, "ptrace");
  assert.match(why, /none with systrap: no luck/);
});

Deno.test("kvm is never tried unless it is asked for", async () => {
  await using host = await Host.where(({ platform }) => platform === "kvm");
  await assert.rejects(
    host.platform(),
    fails("FailedPrecondition", /systrap: no luck; ptrace: no luck/),
  );
  assert.equal((await host.platform({ wanted: "kvm" })).platform, "kvm");
});

Deno.test("a platform that is asked for and does not work is an error that says what to do", async () => {
  await using host = await Host.where(({ platform }) => platform === "systrap");
  await assert.rejects(
    host.platform({ wanted: "kvm" }),
    fails("FailedPrecondition", /kvm: no luck.*gvisor\.platform to "auto"/),
  );
  await assert.rejects(
    host.platform({ wanted: "kvm", facts: { bootId: "boot-1", kvm: false } }),
    fails("FailedPrecondition", /\/dev\/kvm cannot be opened/),
  );
  assert.deepEqual(host.tried, ["kvm none"]);
});

Deno.test("gVisor's own network is used as it is where it works", async () => {
  await using host = await Host.where(() => true);
  const { network, hidesNetworkSettings } = await host.network();
  assert.deepEqual({ network, hidesNetworkSettings }, {
    network: "sandbox",
    hidesNetworkSettings: false,
  });
  assert.deepEqual(host.tried, ["systrap sandbox"]);
});

Deno.test("where runsc refuses it, it is used with the host's settings hidden", async () => {
  await using host = await Host.where(({ hidesNetworkSettings }) => hidesNetworkSettings === true);
  const { network, hidesNetworkSettings, why } = await host.network();
  assert.deepEqual({ network, hidesNetworkSettings }, {
    network: "sandbox",
    hidesNetworkSettings: true,
  });
  assert.match(why, /no luck/);
});

Deno.test("where it never works, the host's network in the pod's namespace is used, or it is an error", async () => {
  await using host = await Host.where(() => false);
  assert.equal((await host.network()).network, "host");
  await assert.rejects(
    host.network({ wanted: "sandbox" }),
    fails("FailedPrecondition", /no luck.*hidden: no luck.*gvisor\.network/),
  );
});

Deno.test("other networks are taken at their word", async () => {
  await using host = await Host.where(() => false);
  assert.equal((await host.network({ wanted: "host" })).network, "host");
  assert.equal((await host.network({ wanted: "none" })).network, "none");
  assert.deepEqual(host.tried, []);
});

Deno.test("a choice is remembered until the host, runsc or the wish is another", async () => {
  await using host = await Host.where(() => true);
  const first = await host.platform();
  assert.deepEqual(await host.platform(), first);
  assert.deepEqual(host.tried, ["systrap none"]);
  await host.platform({ facts: { bootId: "boot-2", kvm: true } });
  await host.platform({ facts: { bootId: "boot-2", kvm: true }, runsc: "runsc 2" });
  await host.platform({
    facts: { bootId: "boot-2", kvm: true },
    runsc: "runsc 2",
    wanted: "ptrace",
  });
  assert.deepEqual(host.tried.slice(1), ["systrap none", "systrap none", "ptrace none"]);
  const network = await host.network();
  assert.deepEqual(await host.network(), network);
  await host.network({ platform: "ptrace" });
  assert.deepEqual(host.tried.slice(4), ["systrap sandbox", "ptrace sandbox"]);
});

Deno.test("what was decided as a try took too long is not remembered", async () => {
  await using host = await Host.where(({ platform, hidesNetworkSettings }) =>
    platform === "ptrace" || hidesNetworkSettings === true
  );
  host.isBusy = true;
  assert.equal((await host.platform()).platform, "ptrace");
  assert.equal((await host.network()).hidesNetworkSettings, true);
  host.isBusy = false;
  host.tried.length = 0;
  await host.platform();
  await host.platform();
  await host.network();
  await host.network();
  assert.deepEqual(host.tried, [
    "systrap none",
    "ptrace none",
    "systrap sandbox",
    "systrap sandbox hidden",
  ]);
});

Deno.test("a damaged memory is found out again, and without a boot id nothing is remembered", async () => {
  await using host = await Host.where(() => true);
  const key = '"bootId":"boot-1","runsc":"runsc 1","wanted":"auto"';
  await host.platform();
  for (const text of ["", "{", "null", "7", `{${key}}`, `{${key},"platform":"x","why":"y"}`]) {
    await Deno.writeTextFile(`${host.directory}/deep/platform.json`, text);
    host.tried.length = 0;
    await host.platform();
    assert.deepEqual(host.tried, ["systrap none"], text);
  }
  host.tried.length = 0;
  await host.platform({ facts: { bootId: "", kvm: false } });
  await host.platform({ facts: { bootId: "", kvm: false } });
  assert.deepEqual(host.tried, ["systrap none", "systrap none"]);
});

Deno.test("a memory that cannot be written fails nothing", async () => {
  await using host = await Host.where(() => true);
  await Deno.writeTextFile(`${host.directory}/file`, "");
  const memoryFile = `${host.directory}/file/choice.json`;
  assert.equal((await host.platform({ memoryFile })).platform, "systrap");
  assert.equal((await host.network({ memoryFile })).network, "sandbox");
});

Deno.test("who gave up before is told so", async () => {
  await using host = await Host.where(() => true);
  const memoryFile = `${host.directory}/x.json`;
  const options = { ...host.base(), wanted: "auto", memoryFile } as const;
  await assert.rejects(
    choosePlatform(options, AbortSignal.abort()),
    /cannot choose a platform for gVisor: cancelled/,
  );
});
