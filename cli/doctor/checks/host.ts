/**
 * Looks at what all kinds stand on: rights, kernel, cgroups, room.
 *
 * @module
 */

import { showBytes } from "../../show/amounts.ts";
import { DOCTOR_KINDS, type Finding, missing, note, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";

/** Capabilities that sandboxers act with, by their numbers (capabilities(7)). */
const CAPABILITIES: readonly (readonly [name: string, bit: bigint])[] = [
  ["CAP_CHOWN", 0n],
  ["CAP_DAC_OVERRIDE", 1n],
  ["CAP_FOWNER", 3n],
  ["CAP_KILL", 5n],
  ["CAP_SETGID", 6n],
  ["CAP_SETUID", 7n],
  ["CAP_NET_ADMIN", 12n],
  ["CAP_SYS_CHROOT", 18n],
  ["CAP_SYS_PTRACE", 19n],
  ["CAP_SYS_ADMIN", 21n],
];

/** Controllers by which limits of pods are held. */
const CONTROLLERS = ["cpu", "cpuset", "memory", "pids"];

/** Where state is kept, and how much room it should have, in bytes: some machines' memory. */
const STATE_DIRECTORY = "/run";
const STATE_BYTES_MIN = 512 * 2 ** 20;

/** Where caches are kept, and how much room they should have, in bytes. */
const CACHE_DIRECTORIES = ["/var/cache/quasaur", "/var/cache", "/var"];
const CACHE_BYTES_MIN = 2 ** 30;

/** Looks. */
export async function hostChecks(host: DoctorHost): Promise<Finding[]> {
  return [
    rights(host),
    await kernel(host),
    await capabilities(host),
    await cgroups(host),
    await state(host),
    await cache(host),
  ];
}

function rights(host: DoctorHost): Finding {
  const uid = host.uid();
  if (uid === 0) return ok("host", "rights", "rights", "root");
  return note(
    "host",
    "rights",
    "rights",
    `user ${uid}: sandboxers run as root; \`quasaur run wasm\` and \`run vmm\` work without`,
    "sudo quasaur doctor",
  );
}

async function kernel(host: DoctorHost): Promise<Finding> {
  const release = (await host.readText("/proc/sys/kernel/osrelease"))?.trim();
  return release === undefined
    ? note("host", "kernel", "kernel", "its release cannot be read from /proc")
    : ok("host", "kernel", "kernel", `Linux ${release}`);
}

async function capabilities(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["capabilities", "capabilities"];
  const status = await host.readText("/proc/self/status") ?? "";
  const mask = /^CapEff:\s*([0-9a-f]{1,16})$/m.exec(status)?.[1];
  if (mask === undefined) return note("host", id, title, "they cannot be read from /proc");
  const lacking = CAPABILITIES.filter(([, bit]) => (BigInt(`0x${mask}`) & (1n << bit)) === 0n)
    .map(([name]) => name);
  if (lacking.length === 0) return ok("host", id, title, "all that sandboxers act with");
  const found = `without ${lacking.join(", ")}`;
  if (host.uid() !== 0) return note("host", id, title, found, "sudo quasaur doctor");
  // Root without them is in a container of somebody else's.
  const mend = "docker run --privileged ...";
  return lacking.includes("CAP_SYS_ADMIN")
    ? missing("host", id, title, found, mend, ["gvisor"])
    : note("host", id, title, found, mend);
}

/** What the mount table says of cgroups. */
interface CgroupMounts {
  readonly v1: readonly string[];
  readonly v2: string | undefined;
}

function cgroupMounts(mounts: string): CgroupMounts {
  const v1: string[] = [];
  let v2: string | undefined;
  for (const line of mounts.split("\n")) {
    const [, target, type, options = ""] = line.split(" ");
    if (type === "cgroup2") v2 ??= target;
    if (type === "cgroup") v1.push(...options.split(","));
  }
  return { v1, v2 };
}

async function cgroups(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["cgroups", "cgroups"];
  const { v1, v2 } = cgroupMounts(await host.readText("/proc/mounts") ?? "");
  const text = v2 === undefined ? "" : await host.readText(`${v2}/cgroup.controllers`) ?? "";
  const unified = text.trim().split(/\s+/).filter((name) => name !== "");
  const has = (name: string) => v1.includes(name) || unified.includes(name);
  const there = CONTROLLERS.filter(has);
  const absent = CONTROLLERS.filter((name) => !has(name));
  const versions = [
    ...v1.length > 0 ? ["version 1"] : [],
    ...v2 === undefined ? [] : ["version 2"],
  ];
  if (versions.length === 0) {
    return missing(
      "host",
      id,
      title,
      "not mounted: no limit of a pod can be held",
      "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    );
  }
  const found = `${versions.join(" and ")} with ${there.join(", ") || "no controllers"}`;
  if (absent.length === 0) return ok("host", id, title, found);
  return note(
    "host",
    id,
    title,
    `${found}; without ${absent.join(", ")}: those limits are not held`,
    v2 === undefined
      ? undefined
      : `echo "${absent.map((name) => `+${name}`).join(" ")}" > ${v2}/cgroup.subtree_control`,
  );
}

async function state(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["state", "room for state"];
  const free = await host.freeBytes(STATE_DIRECTORY);
  if (free === undefined) return note("host", id, title, `${STATE_DIRECTORY} cannot be asked`);
  const mounts = await host.readText("/proc/mounts") ?? "";
  const isMemory = mounts.split("\n").some((line) => / \/run tmpfs /.test(line));
  const where = `${STATE_DIRECTORY} (${isMemory ? "tmpfs" : "on disk"})`;
  const found = `${showBytes(free)} free in ${where}`;
  if (free >= STATE_BYTES_MIN) return ok("host", id, title, found);
  return note(
    "host",
    id,
    title,
    `${found}: saved machines of the vmm kind take more`,
    isMemory ? "mount -o remount,size=2g /run" : "df -h /run",
  );
}

async function cache(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["cache", "room for caches"];
  for (const directory of CACHE_DIRECTORIES) {
    if (await host.whatIsAt(directory) !== "directory") continue;
    const free = await host.freeBytes(directory);
    if (free === undefined) return note("host", id, title, `${directory} cannot be asked`);
    const found = `${showBytes(free)} free in ${directory}`;
    if (free >= CACHE_BYTES_MIN) return ok("host", id, title, found);
    const mend = "rm -rf /var/cache/quasaur/vmm/rootfs-images /var/cache/quasaur/wasm";
    return note("host", id, title, `${found}: images and compiled code are kept there`, mend);
  }
  return missing("host", id, title, "there is no /var", "mkdir -p /var/cache", DOCTOR_KINDS);
}
