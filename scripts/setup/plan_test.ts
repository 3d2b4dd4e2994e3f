import assert from "node:assert/strict";
import { parsePolicies, parseReleases, type Simulation } from "./apt_policy.ts";
import { parseSources } from "./apt_sources.ts";
import type { Machine } from "./machine.ts";
import {
  FIXED_PREFERENCES_PATH,
  FIXED_SOURCE_PATH,
  PREFERENCES_PATH,
  SOURCE_PATH,
} from "./newer_suite.ts";
import { makePlan, type PackageStep, type Plan } from "./plan.ts";
import { PURPOSES, type RequirementId, REQUIREMENTS, requirementsFor } from "./requirements.ts";

/** What `apt-cache policy` said on real package lists, by the name of the recording. */
function recorded(name: string, kind: "releases" | "packages"): string {
  return Deno.readTextFileSync(new URL(`testdata/${name}.${kind}.txt`, import.meta.url));
}

/** The sources of a usual installation of one Debian release. */
function sources(suite: string) {
  return parseSources(
    "/etc/apt/sources.list.d/debian.sources",
    [
      "Types: deb deb-src",
      "URIs: http://archive.example.org/debian",
      `Suites: ${suite} ${suite}-updates`,
      "Components: main contrib",
      "Signed-By: /usr/share/keyrings/example.gpg",
      "",
      "Types: deb",
      "URIs: http://archive.example.org/debian-security",
      `Suites: ${suite}-security`,
      "Components: main",
    ].join("\n"),
  );
}

/** A machine with recorded package lists on which nothing is found but what is given. */
function machine(
  recording: string,
  more: {
    readonly found?: readonly RequirementId[];
    readonly installed?: Readonly<Record<string, string>>;
    readonly ownFiles?: ReadonlyMap<string, string>;
    readonly simulate?: (packages: readonly string[], suite?: string) => Partial<Simulation>;
  } = {},
): Machine {
  const policies = parsePolicies(recorded(recording, "packages"));
  for (const [name, installed] of Object.entries(more.installed ?? {})) {
    const policy = policies.get(name) ?? { candidate: installed, versions: [] };
    policies.set(name, { ...policy, installed });
  }
  const simulation = { solvable: true, installs: [], removes: [], output: "" };
  return {
    osName: recording,
    isRoot: true,
    found: new Map((more.found ?? []).map((id) => [id, "there"])),
    ownFiles: more.ownFiles ?? new Map(),
    apt: {
      releases: parseReleases(recorded(recording, "releases")),
      sources: sources(recording.split("-")[0] ?? ""),
      policies,
      simulate: (packages, suite) =>
        Promise.resolve({ ...simulation, ...more.simulate?.(packages, suite) }),
    },
  };
}

/** Requirements that were found. */
function all(ids: readonly RequirementId[]): Map<RequirementId, string> {
  return new Map(ids.map((id) => [id, "there"]));
}

/** A machine that has the lists of trixie too, with the pins that set-up writes. */
function withRunscOfTrixie(before: Machine): Machine {
  const { apt } = before;
  if (apt === undefined) return before;
  const runsc = parsePolicies([
    "runsc:",
    "  Installed: (none)",
    "  Candidate: 0.0~20240729.0-4+b7",
    "  Version table:",
    "     0.0~20240729.0-7+b1 100",
    "        100 http://deb.debian.org/debian forky/main amd64 Packages",
    "     0.0~20240729.0-4+b7 990",
    "         90 http://deb.debian.org/debian trixie/main amd64 Packages",
    "     0.0~20221219.0-2+b3 500",
    "        500 http://deb.debian.org/debian bookworm/main amd64 Packages",
    "",
  ].join("\n"));
  const trixie = { origin: "Debian", label: "Debian", codename: "trixie", archive: "stable" };
  return {
    ...before,
    apt: {
      ...apt,
      releases: [...apt.releases, trixie],
      policies: new Map([...apt.policies, ...runsc]),
    },
  };
}

/** The steps of a plan that is possible. */
function stepsOf(plan: Plan): readonly PackageStep[] {
  assert.equal(plan.kind, "steps", JSON.stringify(plan));
  return plan.kind === "steps" ? plan.steps : [];
}

/** A step in short. */
function brief(step: PackageStep): string {
  if (step.kind === "write") return `write ${step.path}`;
  if (step.kind === "update") return "update";
  return `install ${step.suite ?? "own"}: ${step.packages.join(" ")}`;
}

const ALL = requirementsFor(PURPOSES);

Deno.test("on a fresh Debian 12 only what it lacks comes from the newer suite, after the rest", async () => {
  const steps = stepsOf(await makePlan(machine("bookworm"), ALL));
  assert.deepEqual(steps.map(brief), [
    "install own: gcc libc6-dev clang lld wasi-libc libclang-rt-14-dev-wasm32 iproute2 " +
    "containernetworking-plugins runc busybox-static xz-utils zstd tmux",
    `write ${SOURCE_PATH}`,
    `write ${PREFERENCES_PATH}`,
    `write ${FIXED_SOURCE_PATH}`,
    `write ${FIXED_PREFERENCES_PATH}`,
    "update",
    "install forky: containerd libwasmedge0 wasmedge qemu-system-x86 virtiofsd erofs-utils " +
    "quickjs libquickjs",
    "install trixie: runsc",
  ]);
});

Deno.test("on a fresh Debian 13 likewise: its containerd and WasmEdge are too old", async () => {
  const steps = stepsOf(await makePlan(machine("trixie"), requirementsFor(["demo"])));
  assert.deepEqual(steps.map(brief), [
    "install own: gcc libc6-dev clang lld wasi-libc libclang-rt-19-dev-wasm32 iproute2 " +
    "containernetworking-plugins busybox-static virtiofsd quickjs libquickjs xz-utils zstd runsc",
    `write ${SOURCE_PATH}`,
    `write ${PREFERENCES_PATH}`,
    "update",
    "install forky: containerd libwasmedge0 qemu-system-x86 erofs-utils",
  ]);
});

Deno.test("a Debian that has everything uses its own suites, but for what must come from another", async () => {
  const steps = stepsOf(await makePlan(machine("forky"), ALL));
  assert.deepEqual(steps.map(brief), [
    "install own: containerd libwasmedge0 gcc libc6-dev clang lld wasi-libc " +
    "libclang-rt-21-dev-wasm32 iproute2 containernetworking-plugins runc busybox-static wasmedge " +
    "qemu-system-x86 virtiofsd erofs-utils quickjs libquickjs xz-utils zstd tmux",
    `write ${FIXED_SOURCE_PATH}`,
    `write ${FIXED_PREFERENCES_PATH}`,
    "update",
    "install trixie: runsc",
  ]);
});

Deno.test("what must come from one suite is taken from no newer one, and stays there", async () => {
  const some = machine("forky", { found: ALL.map(({ id }) => id).filter((id) => id !== "runsc") });
  const steps = stepsOf(await makePlan(some, ALL));
  const [source, preferences] = steps.filter((step) => step.kind === "write");
  assert.match(source?.text ?? "", /^Suites: trixie$/m);
  const pins = [
    ...(preferences?.text ?? "").matchAll(/^Package: (.*)\nPin: (.*)\nPin-Priority: (.*)$/gm),
  ];
  assert.deepEqual(pins.map(([, ...fields]) => fields.join("; ")), [
    "*; release n=trixie; 90",
    "runsc; release n=trixie; 990",
  ]);
});

Deno.test("once that suite is known, its package is installed from there", async () => {
  const known = withRunscOfTrixie(machine("bookworm-forky"));
  const found = ALL.map(({ id }) => id).filter((id) => id !== "runsc");
  const steps = stepsOf(await makePlan({ ...known, found: all(found) }, ALL));
  assert.deepEqual(steps.map(brief), ["install trixie: runsc"]);
});

Deno.test("a suite that goes by what it is now is known as well", async () => {
  const known = machine("trixie", {
    found: ALL.map(({ id }) => id).filter((id) => id !== "runsc"),
  });
  const runsc = {
    installed: undefined,
    candidate: "0.0~20240729.0-4+b7",
    versions: [{ version: "0.0~20240729.0-4+b7", suites: ["stable"], priority: 500 }],
  };
  const policies = new Map([...known.apt?.policies ?? [], ["runsc", runsc]]);
  const steps = stepsOf(
    await makePlan({ ...known, apt: known.apt && { ...known.apt, policies } }, ALL),
  );
  assert.deepEqual(steps.map(brief), ["install own: runsc"]);
});

Deno.test("the new source is that of the machine's archive with its keys, and is pinned low", async () => {
  const steps = stepsOf(await makePlan(machine("bookworm"), ALL));
  const [source, preferences] = steps.filter((step) => step.kind === "write");
  assert.match(source?.text ?? "", /^# Written by Quasaur's set-up.*\n/);
  assert.ok(
    source?.text.endsWith([
      "Types: deb",
      "URIs: http://archive.example.org/debian",
      "Suites: forky",
      "Components: main",
      "Signed-By: /usr/share/keyrings/example.gpg",
      "",
    ].join("\n")),
    source?.text ?? "",
  );
  assert.match(preferences?.text ?? "", /^Package: \*\nPin: release n=forky\nPin-Priority: 100$/m);
});

Deno.test("once the source is there it is used, and not written again", async () => {
  const steps = stepsOf(await makePlan(machine("bookworm-forky"), requirementsFor(["demo"])));
  assert.deepEqual(steps.map(brief), [
    "install own: gcc libc6-dev clang lld wasi-libc libclang-rt-14-dev-wasm32 iproute2 " +
    "containernetworking-plugins busybox-static xz-utils zstd",
    "install forky: containerd libwasmedge0 qemu-system-x86 virtiofsd erofs-utils quickjs libquickjs",
    `write ${FIXED_SOURCE_PATH}`,
    `write ${FIXED_PREFERENCES_PATH}`,
    "update",
    "install trixie: runsc",
  ]);
});

Deno.test("files that are there with the same text are not written again", async () => {
  const first = stepsOf(await makePlan(machine("bookworm"), ALL));
  const files = first.filter((step) => step.kind === "write");
  const ownFiles = new Map(files.map(({ path, text }) => [path, text]));
  const steps = stepsOf(await makePlan(machine("bookworm", { ownFiles }), ALL));
  assert.equal(steps.filter((step) => step.kind === "write").length, 0);
  assert.equal(steps.filter((step) => step.kind === "update").length, 1);
});

Deno.test("where the own suites do not fit upgraded packages any more, the newer suite gives all", async () => {
  const upgraded = machine("bookworm-forky", {
    found: ALL.map(({ id }) => id).filter((id) => id !== "wasm-cc"),
    installed: { "containerd": "2.1.9+ds1-5", "libwasmedge0": "0.17.1-1+b1" },
    simulate: (_, suite) => ({ solvable: suite === "forky" }),
  });
  const steps = stepsOf(await makePlan(upgraded, requirementsFor(["demo"])));
  assert.deepEqual(steps.map(brief), [
    "install forky: clang lld wasi-libc libclang-rt-21-dev-wasm32",
  ]);
});

Deno.test("the compiler's library is that of the installed clang", async () => {
  const some = machine("bookworm-forky", {
    found: ALL.map(({ id }) => id).filter((id) => id !== "wasm-cc"),
    installed: { "clang": "1:19.0-1", "lld": "1:19.0-1" },
  });
  const steps = stepsOf(await makePlan(some, ALL));
  assert.deepEqual(steps.map(brief), ["install own: wasi-libc libclang-rt-19-dev-wasm32"]);
});

Deno.test("where everything is found there is nothing to do, whatever the system", async () => {
  const complete: Machine = {
    osName: "Some Linux",
    isRoot: false,
    found: new Map(REQUIREMENTS.map(({ id }) => [id, "there"])),
    ownFiles: new Map(),
    apt: undefined,
  };
  assert.deepEqual(stepsOf(await makePlan(complete, ALL)), []);
});

Deno.test("without package lists they are fetched first", async () => {
  const fresh = machine("bookworm");
  const empty = { ...fresh, apt: fresh.apt && { ...fresh.apt, releases: [], policies: new Map() } };
  assert.deepEqual(stepsOf(await makePlan(empty, ALL)).map(brief), ["update"]);
});

Deno.test("a system without apt gets a message that names what to install", async () => {
  const plan = await makePlan(
    { ...machine("bookworm"), apt: undefined, osName: "Some Linux" },
    ALL,
  );
  assert.equal(plan.kind, "impossible");
  const message = plan.kind === "impossible" ? plan.message : "";
  assert.match(message, /^Cannot install packages on Some Linux: it has no apt/);
  assert.match(message, /containerd 2\.1 or newer: it drives the sandboxers/);
  assert.match(message, /libwasmedge0/);
});

Deno.test("a system with apt but other packages than Debian's gets a message, not a source", async () => {
  const debian = machine("bookworm");
  const other: Machine = {
    ...debian,
    osName: "Other 24.04",
    apt: debian.apt && {
      ...debian.apt,
      releases: [{ origin: "Other", label: "Other", codename: "noble", archive: "noble" }],
    },
  };
  const plan = await makePlan(other, ALL);
  assert.match(
    plan.kind === "impossible" ? plan.message : "",
    /^Cannot install packages on Other 24\.04: its packages do not come from Debian/,
  );
});

Deno.test("a newer suite that is too old as well is said so, with what it offers", async () => {
  const old = machine("bookworm-forky");
  const containerd = {
    installed: undefined,
    candidate: "1.6.20",
    versions: [{ version: "1.6.20", suites: ["bookworm", "forky"], priority: 500 }],
  };
  const policies = new Map([...old.apt?.policies ?? [], ["containerd", containerd]]);
  const plan = await makePlan({ ...old, apt: old.apt && { ...old.apt, policies } }, ALL);
  assert.match(
    plan.kind === "impossible" ? plan.message : "",
    /containerd \(needs 2\.1\): apt offers 1\.6\.20/,
  );
});

Deno.test("packages that are installed but do not work are said so", async () => {
  const broken = machine("forky", {
    found: ALL.map(({ id }) => id).filter((id) => id !== "cc"),
    installed: { "gcc": "4:16.1.0-3", "libc6-dev": "2.43-7" },
  });
  const plan = await makePlan(broken, ALL);
  assert.match(
    plan.kind === "impossible" ? plan.message : "",
    /^Cannot find a working C compiler, though its packages are installed: gcc libc6-dev/,
  );
});
