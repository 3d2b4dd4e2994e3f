/**
 * Looks at containerd: its version, our sections in its configuration, the stub shims that it wants,
 * and the network of pods. Sandboxes without containerd need none of it.
 *
 * @module
 */

import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { CONTAINERD_MINIMUM } from "../../../sandboxers/minimum_versions.ts";
import { isAtLeast } from "../../../sandboxers/versions.ts";
import { BRIDGE_NETWORK } from "../bridge_network.ts";
import { type DoctorKind, type Finding, missing, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";
import { configuring, installing, quasaur } from "../mending.ts";

/** Where containerd may be. */
const PROGRAMS = ["/usr/local/bin/containerd", "/usr/bin/containerd"];

/** The directories in which services find programs; containerd is one, and looks there for shims. */
const SERVICE_PATH = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
];

/** The stub shims of each kind, without what all names share. */
const SHIMS: Readonly<Record<DoctorKind, readonly string[]>> = {
  wasm: ["wasm", "wasm-process"],
  vmm: ["vmm"],
  gvisor: ["gvisor"],
};

/** Plugins without which no pod has a network. */
const PLUGINS = ["bridge", "host-local", "loopback"];

/** Looks. */
export async function containerdChecks(
  host: DoctorHost,
  kinds: readonly DoctorKind[],
): Promise<Finding[]> {
  const version = await containerd(host);
  if (version.state === "missing") return [version];
  return [version, await sections(host, kinds), await shims(host, kinds), ...await cni(host)];
}

async function containerd(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["containerd", "containerd"];
  const mend = installing(host, "containerd");
  for (const program of PROGRAMS) {
    const said = await host.run(program, ["--version"]);
    const version = /(?<![\d.])(\d+\.\d+\.\d+\S*)/.exec(said ?? "")?.[1];
    if (version === undefined) continue;
    if (isAtLeast(version, CONTAINERD_MINIMUM)) {
      return ok("containerd", id, title, `${version}, ${program}`);
    }
    const found = `${version}: ${CONTAINERD_MINIMUM} or newer has the sandbox API`;
    return missing("containerd", id, title, found, mend);
  }
  return missing(
    "containerd",
    id,
    title,
    "not installed: only `quasaur run` makes sandboxes",
    mend,
  );
}

async function sections(host: DoctorHost, kinds: readonly DoctorKind[]): Promise<Finding> {
  const [id, title] = ["containerd-config", "containerd's configuration"];
  const mend = configuring(host, kinds);
  try {
    const { file, exists, missing: absent, different } = await host.containerdSections(kinds);
    if (absent.length === 0 && different.length === 0) {
      return ok("containerd", id, title, `${file} has all sections`);
    }
    if (absent.length === 0) {
      return missing("containerd", id, title, different.join("; "), `${mend} --force`);
    }
    const found = exists ? `${file} lacks ${absent.join(", ")}` : `there is no ${file}`;
    return missing("containerd", id, title, found, mend);
  } catch (error) {
    const diff = `${quasaur(host)} containerd config --diff`;
    return missing("containerd", id, title, SandboxError.from(error).message, diff);
  }
}

async function shims(host: DoctorHost, kinds: readonly DoctorKind[]): Promise<Finding> {
  const [id, title] = ["shims", "stub shims"];
  const names = kinds.flatMap((kind) => SHIMS[kind])
    .map((name) => `containerd-shim-quasaur-${name}-v1`);
  const lacking: string[] = [];
  for (const name of names) {
    const there = await Promise.all(
      SERVICE_PATH.map((directory) => host.whatIsAt(`${directory}/${name}`)),
    );
    if (!there.includes("file")) lacking.push(name);
  }
  if (lacking.length === 0) return ok("containerd", id, title, names.join(", "));
  return missing(
    "containerd",
    id,
    title,
    `not on containerd's PATH: ${lacking.join(", ")}: it loses its containers when it restarts`,
    host.isSourceTree ? "deno task setup" : "quasaur install",
  );
}

async function cni(host: DoctorHost): Promise<Finding[]> {
  const { programs, networks } = await host.cniPlaces();
  let found: string | undefined;
  for (const directory of programs) {
    const there = await Promise.all(
      PLUGINS.map((name) => host.whatIsAt(`${directory}/${name}`)),
    );
    if (there.every((kind) => kind === "file")) found ??= directory;
  }
  const plugins = found === undefined
    ? missing(
      "containerd",
      "cni-plugins",
      "CNI plugins",
      `${PLUGINS.join(", ")} are not in ${programs.join(" or ")}: pods get no network`,
      installing(host, "containernetworking-plugins"),
    )
    : ok("containerd", "cni-plugins", "CNI plugins", found);
  const files = (await host.list(networks)).filter((name) => /\.(conf|conflist|json)$/.test(name));
  const network = files.length > 0
    ? ok("containerd", "cni-config", "CNI network", `${networks}/${files.sort()[0]}`)
    : missing(
      "containerd",
      "cni-config",
      "CNI network",
      `none in ${networks}: containerd makes no pods before there is one; Kubernetes' network ` +
        "add-on brings it",
      `mkdir -p ${networks} && echo '${BRIDGE_NETWORK}' > ${networks}/10-bridge.conflist`,
    );
  return [plugins, network];
}
