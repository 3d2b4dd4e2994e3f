/**
 * Looks at what microVMs take: QEMU, what executes guests, kernel and initrd, and the tools for files.
 *
 * @module
 */

import type { HostFacts } from "../../../sandboxers/host/launcher.ts";
import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { EROFS_MINIMUM, QEMU_MINIMUM } from "../../../sandboxers/minimum_versions.ts";
import { isAtLeast } from "../../../sandboxers/versions.ts";
import type { VmmConfig } from "../../../sandboxers/vmm/config/config.ts";
import { guestFiles } from "../../../sandboxers/vmm/config/machine.ts";
import { type Finding, missing, note, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";
import { building, installing, quasaur } from "../mending.ts";

/** The program that makes images of root file systems. */
const MKFS_EROFS = "/usr/bin/mkfs.erofs";

/** Where saved machines are kept unless the configuration says something else. */
const TEMPLATES = "/run/quasaur/vmm/templates";

/** Looks. What needs the launcher is left out where it does not run. */
export async function vmmChecks(
  host: DoctorHost,
  facts: HostFacts | undefined,
): Promise<Finding[]> {
  const read = await host.vmmConfig();
  if ("problem" in read) {
    const mend = `${quasaur(host)} config vmm`;
    return [missing("vmm", "vmm-config", "configuration of vmm", read.problem, mend, ["vmm"])];
  }
  const { config } = read;
  const qemuCheck = await qemu(host, config, facts);
  return [
    qemuCheck,
    ...(facts === undefined ? [] : [kvmDevice(facts), vsock(facts)]),
    ...(facts === undefined || qemuCheck.state === "missing"
      ? []
      : [await accelerator(host, config, facts)]),
    ...await guest(host, config),
    await virtiofsd(host, config),
    await erofs(host),
    await templates(host, config),
  ];
}

async function qemu(
  host: DoctorHost,
  config: VmmConfig,
  facts: HostFacts | undefined,
): Promise<Finding> {
  const [id, title] = ["qemu", "QEMU"];
  const { path } = config.hypervisor;
  const mend = installing(host, "qemu-system-x86");
  if (await host.whatIsAt(path) !== "file") {
    return missing("vmm", id, title, `no such file: ${path} (hypervisor.path)`, mend, ["vmm"]);
  }
  if (facts === undefined) return ok("vmm", id, title, path);
  try {
    const version = await host.qemu(config);
    if (isAtLeast(version, QEMU_MINIMUM)) return ok("vmm", id, title, `${version}, ${path}`);
    const found = `${version}: the oldest that was run with is ${QEMU_MINIMUM}`;
    return note("vmm", id, title, found, mend);
  } catch (error) {
    return missing("vmm", id, title, SandboxError.from(error).message, mend, ["vmm"]);
  }
}

function kvmDevice({ kvm, kvmPvm }: HostFacts): Finding {
  const [id, title] = ["kvm", "KVM"];
  if (kvm && !kvmPvm) return ok("vmm", id, title, "/dev/kvm can be opened");
  if (kvm) {
    const found = "/dev/kvm works without the processor (kvm_pvm): too slow to use";
    return note("vmm", id, title, found);
  }
  return note(
    "vmm",
    id,
    title,
    "/dev/kvm cannot be opened: guests are translated, which is slower",
    "modprobe kvm_intel || modprobe kvm_amd",
  );
}

function vsock({ vhostVsock }: HostFacts): Finding {
  const [id, title] = ["vsock", "vsock"];
  return vhostVsock
    ? ok("vmm", id, title, "/dev/vhost-vsock can be opened; QEMU's machines do not use it")
    : note("vmm", id, title, "/dev/vhost-vsock cannot be opened; QEMU's machines do not use it");
}

async function accelerator(
  host: DoctorHost,
  config: VmmConfig,
  facts: HostFacts,
): Promise<Finding> {
  const [id, title] = ["accelerator", "tiny guest"];
  try {
    const { accelerator, why } = await host.tryMachine(config, facts);
    return accelerator === "kvm"
      ? ok("vmm", id, title, `runs on the processor (KVM): ${why}`)
      : note("vmm", id, title, `runs by QEMU's translator (TCG), which is slower: ${why}`);
  } catch (error) {
    const mend = installing(host, "qemu-system-x86");
    return missing("vmm", id, title, SandboxError.from(error).message, mend, ["vmm"]);
  }
}

async function guest(host: DoctorHost, { hypervisor }: VmmConfig): Promise<Finding[]> {
  const { kernel, initrd } = guestFiles(hypervisor);
  const files = [["guest-kernel", "guest's kernel", kernel], [
    "guest-initrd",
    "guest's initrd",
    initrd,
  ]] as const;
  return await Promise.all(
    files.map(async ([id, title, path]) =>
      await host.whatIsAt(path) === "file"
        ? ok("vmm", id, title, path)
        : missing("vmm", id, title, `no such file: ${path}`, building(host, "guest-image"), ["vmm"])
    ),
  );
}

async function virtiofsd(host: DoctorHost, { hypervisor }: VmmConfig): Promise<Finding> {
  const [id, title] = ["virtiofsd", "virtiofsd"];
  const { path } = hypervisor.virtiofsd;
  if (await host.whatIsAt(path) === "file") return ok("vmm", id, title, path);
  const found = `no such file: ${path}: pods with volumes that are written to cannot run`;
  return note("vmm", id, title, found, installing(host, "virtiofsd"));
}

async function erofs(host: DoctorHost): Promise<Finding> {
  const [id, title] = ["mkfs.erofs", "mkfs.erofs"];
  const mend = installing(host, "erofs-utils");
  const said = await host.run(MKFS_EROFS, ["--version"]);
  const version = /(\d+(?:\.\d+)+)/.exec(said ?? "")?.[1];
  if (version === undefined) {
    return missing("vmm", id, title, `${MKFS_EROFS} cannot be run`, mend, ["vmm"]);
  }
  if (isAtLeast(version, EROFS_MINIMUM)) return ok("vmm", id, title, version);
  return note(
    "vmm",
    id,
    title,
    `${version}: the oldest that was run with is ${EROFS_MINIMUM}`,
    mend,
  );
}

async function templates(host: DoctorHost, { template }: VmmConfig): Promise<Finding> {
  const [id, title] = ["templates", "saved machines"];
  if (!template.enable) {
    return note("vmm", id, title, "switched off (template.enable): every start boots a kernel");
  }
  const directory = template.directory === "" ? TEMPLATES : template.directory;
  const names = (await host.list(directory)).filter((name) => !name.startsWith("."));
  return names.length > 0
    ? ok("vmm", id, title, `${names.length} in ${directory}`)
    : note("vmm", id, title, `none yet in ${directory}: the sandboxer makes them as it starts`);
}
