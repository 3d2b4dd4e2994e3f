/**
 * What turns a fresh guest, or a clone of a template, into one pod's own: clock, entropy, names,
 * files, shared memory, network and kernel settings.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { GuestMount, SetupArgs } from "../protocol/messages.ts";
import { must, mustGet, systemError } from "./errno.ts";
import { makeDirectory, mountAt, unmountAt, writeText } from "./files.ts";
import { MS_NODEV, MS_NOEXEC, MS_NOSUID } from "./linux.ts";
import { setUpNetwork } from "./network.ts";
import * as sys from "./sys.js";

/** The pod's files and its shared memory, as containers get them. */
const POD = "/run/pod";

const POD_FILES: Readonly<Record<keyof SetupArgs["files"], string>> = {
  hosts: `${POD}/hosts`,
  hostname: `${POD}/hostname`,
  resolvConf: `${POD}/resolv.conf`,
};

/** Whether the guest is a pod's own, and what the pod has of its own. */
export class Pod {
  #state: "fresh" | "being set up" | "set up" = "fresh";

  /**
   * Makes the guest the pod's own.
   *
   * @param args What the pod is.
   * @throws AgentError `FailedPrecondition` where it was done before; what could not be set up.
   */
  async setUp(args: SetupArgs): Promise<void> {
    if (this.#state !== "fresh") {
      throw new AgentError("FailedPrecondition", `cannot set up the guest: it is ${this.#state}`);
    }
    this.#state = "being set up";
    try {
      const T = [sys.clock(1)]; const tick = () => T.push(sys.clock(1));
      setClock(args.timeMs); tick();
      addEntropy(args.seed); tick();
      must("cannot set the hostname", sys.sethostname(args.hostname || "quasaur"));
      writeIdentity(args); tick();
      mountSharedMemory(args.shmBytes); tick();
      await setUpNetwork(args); tick();
      writeSysctls(args.sysctls); tick();
      this.#state = "set up"; sys.printError("TIMES " + T.slice(1).map((t, i) => (t - (T[i] ?? 0)).toFixed(1)).join(" ") + "\n");
    } catch (thrown) {
      this.#state = "fresh";
      throw thrown;
    }
  }

  /**
   * Where a mount of the pod's own is in the guest.
   *
   * @throws AgentError `FailedPrecondition` before the guest was set up.
   */
  source(mount: Extract<GuestMount, { kind: "shm" | "podFile" }>): string {
    if (this.#state !== "set up") {
      throw new AgentError(
        "FailedPrecondition",
        `cannot mount "${mount.destination}": the guest has not been set up`,
      );
    }
    return mount.kind === "shm" ? `${POD}/shm` : POD_FILES[mount.file];
  }
}

/**
 * Sets the clock.
 *
 * @param timeMs Milliseconds since the epoch.
 */
export function setClock(timeMs: number): void {
  must("cannot set the clock", sys.setTime(timeMs));
}

/**
 * Sets kernel settings of the whole guest.
 *
 * @param settings By name with dots; a slash stands for a dot in a part of the name, as in
 *   `net.ipv4.conf.eth0/100.forwarding` (sysctl(8)).
 * @throws AgentError `InvalidArgument` for a name that is none; what the kernel refused.
 */
export function writeSysctls(settings: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(settings)) {
    if (!/^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)+$/.test(name)) {
      throw new AgentError("InvalidArgument", `"${name}" is not the name of a kernel setting`);
    }
    const errno = sys.writeFile(`/proc/sys/${sysctlPath(name)}`, value);
    if (errno < 0) throw systemError(`cannot set ${name} to "${value}"`, errno);
  }
}

/**
 * The path of a setting below /proc/sys. As in sysctl(8), the first of `.` and `/` separates.
 *
 * @param name Such as `net.ipv4.ip_forward`, or `net/ipv4/ip_forward`.
 */
export function sysctlPath(name: string): string {
  const firstSeparator = name.match(/[./]/)?.[0];
  if (firstSeparator === "/") return name;
  return name.replace(/[./]/g, (sign) => (sign === "." ? "/" : "."));
}

function addEntropy(seed: string): void {
  const bytes = mustGet("cannot read the entropy", sys.decodeBase64(seed));
  if (bytes.byteLength < 32) {
    throw new AgentError("InvalidArgument", "cannot add entropy: at least 32 bytes are expected");
  }
  must("cannot add entropy", sys.addEntropy(bytes, 0, bytes.byteLength));
}

function writeIdentity(args: SetupArgs): void {
  if (!/^[0-9a-f]{32}$/.test(args.machineId)) {
    throw new AgentError(
      "InvalidArgument",
      `cannot use "${args.machineId}" as a machine id: 32 hexadecimal digits are expected`,
    );
  }
  makeDirectory("/etc");
  writeText("/etc/machine-id", `${args.machineId}\n`, 0o444);
  makeDirectory(POD);
  writeText(POD_FILES.hosts, args.files.hosts);
  writeText(POD_FILES.hostname, args.files.hostname);
  writeText(POD_FILES.resolvConf, args.files.resolvConf);
}

function mountSharedMemory(shmBytes: number): void {
  const place = `${POD}/shm`;
  // A set-up that failed half-way may have left one.
  unmountAt(place);
  const size = Math.max(4096, Math.floor(shmBytes));
  mountAt("shm", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, `mode=1777,size=${size}`);
}
