/**
 * What turns a fresh guest, or a clone of a template, into one pod's own: clock, entropy, names,
 * files, shared memory, network and kernel settings.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { GuestMount, RenewArgs, SetupArgs } from "../protocol/messages.ts";
import { must, mustGet, systemError } from "./errno.ts";
import { makeDirectory, mountAt, writeText } from "./files.ts";
import { CLOCK_REALTIME, MS_NODEV, MS_NOEXEC, MS_NOSUID } from "./linux.ts";
import { setUpNetwork } from "./network.ts";
import * as sys from "./sys.js";

/** The pod's files and its shared memory, as containers get them. */
const POD = "/run/pod";

const SHARED_MEMORY = `${POD}/shm`;

/** The size of shared memory that pods get unless they say otherwise, in bytes. */
const USUAL_SHARED_BYTES = 64 << 20;

const POD_FILES: Readonly<Record<keyof SetupArgs["files"], string>> = {
  hosts: `${POD}/hosts`,
  hostname: `${POD}/hostname`,
  resolvConf: `${POD}/resolv.conf`,
};

/** Whether the guest is a pod's own, and what the pod has of its own. */
export class Pod {
  #state: "fresh" | "being set up" | "set up" = "fresh";
  #args: SetupArgs | undefined;
  #hasFiles = false;
  #hasSharedMemory = false;
  #rest: (() => void) | undefined;

  /**
   * Makes the guest the pod's own.
   *
   * @param args What the pod is.
   * @returns Undefined where it is done already; a promise where a device has to be waited for.
   * @throws AgentError `FailedPrecondition` where it was done before; what could not be set up.
   */
  setUp(args: SetupArgs): Promise<void> | undefined {
    if (this.#state !== "fresh") {
      throw new AgentError("FailedPrecondition", `cannot set up the guest: it is ${this.#state}`);
    }
    this.#state = "being set up";
    try {
      setClock(args.timeMs);
      addEntropy(args.seed);
      must("cannot set the hostname", sys.sethostname(args.hostname || "quasaur"));
      checkMachineId(args.machineId);
      const rest = setUpNetwork(args);
      if (rest instanceof Promise) {
        return rest.then((late) => this.#finish(args, late)).catch((thrown) => this.#fail(thrown));
      }
      this.#finish(args, rest);
    } catch (thrown) {
      this.#fail(thrown);
    }
    return undefined;
  }

  #finish(args: SetupArgs, rest: () => void): void {
    this.#rest = rest;
    writeSysctls(args.sysctls);
    this.#args = args;
    this.#state = "set up";
  }

  #fail(thrown: unknown): never {
    this.#state = "fresh";
    throw thrown;
  }

  /** Does what need not be done until the first container is made. */
  settle(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    rest?.();
  }

  /** Makes the pod's files, unless they are there, or there is no pod yet. */
  makeFiles(): void {
    if (this.#hasFiles || this.#args === undefined) return;
    writeFiles(this.#args);
    this.#hasFiles = true;
  }

  /**
   * Makes a guest that was saved with its memory another one than the original.
   *
   * @param args What is new.
   * @throws AgentError `FailedPrecondition` before the guest was set up; what could not be done.
   */
  renew(args: RenewArgs): void {
    if (this.#args === undefined) {
      throw new AgentError(
        "FailedPrecondition",
        "cannot renew the guest: it has not been set up",
      );
    }
    setClock(args.timeMs);
    addEntropy(args.seed);
    checkMachineId(args.machineId);
    this.#args = { ...this.#args, ...args };
    if (this.#hasFiles) writeMachineId(args.machineId);
  }

  /**
   * Where a mount of the pod's own is in the guest. What is mounted is made when the first container
   * asks for it: a clone has to answer `setup` fast.
   *
   * @throws AgentError `FailedPrecondition` before the guest was set up; what the kernel refused.
   */
  source(mount: Extract<GuestMount, { kind: "shm" | "podFile" }>): string {
    if (this.#args === undefined) {
      throw new AgentError(
        "FailedPrecondition",
        `cannot mount "${mount.destination}": the guest has not been set up`,
      );
    }
    if (mount.kind === "podFile") {
      this.makeFiles();
      return POD_FILES[mount.file];
    }
    if (!this.#hasSharedMemory) mountSharedMemory(this.#args.shmBytes);
    this.#hasSharedMemory = true;
    return SHARED_MEMORY;
  }
}

/**
 * Does what {@link Pod.setUp} does to the guest itself, with what is there already. See
 * `rehearsal.ts`.
 */
export function rehearseSetup(): void {
  setClock(sys.clock(CLOCK_REALTIME));
  addEntropy(sys.encodeBase64(new ArrayBuffer(64), 0, 64));
  must("cannot set the hostname", sys.sethostname("quasaur"));
  checkMachineId("0".repeat(32));
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

function checkMachineId(machineId: string): void {
  let isId = machineId.length === 32;
  for (let index = 0; isId && index < 32; index++) {
    isId = "0123456789abcdef".includes(machineId.charAt(index));
  }
  if (isId) return;
  throw new AgentError(
    "InvalidArgument",
    `cannot use "${machineId}" as a machine id: 32 hexadecimal digits are expected`,
  );
}

function writeFiles(args: SetupArgs): void {
  makeDirectory(POD);
  writeText(POD_FILES.hosts, args.files.hosts);
  writeText(POD_FILES.hostname, args.files.hostname);
  writeText(POD_FILES.resolvConf, args.files.resolvConf);
  writeMachineId(args.machineId);
}

/** The guest's own programs see it; a container has its own, or none. */
function writeMachineId(machineId: string): void {
  makeDirectory("/etc");
  writeText("/etc/machine-id", `${machineId}\n`);
}

/** The size of shared memory that is mounted already, in bytes. */
let sharedMemoryBytes: number | undefined;

/**
 * Makes what containers of a usual pod get from it ahead.
 *
 * @throws AgentError What the kernel refused.
 */
export function preparePod(): void {
  makeDirectory(POD);
  makeDirectory("/etc");
  if (sharedMemoryBytes === undefined) mountSharedMemory(USUAL_SHARED_BYTES);
  must("cannot open the kernel's generator of random numbers", sys.prepareEntropy());
}

function mountSharedMemory(shmBytes: number): void {
  const size = Math.max(4096, Math.floor(shmBytes));
  if (sharedMemoryBytes === size) return;
  // A size that is not the usual one lies on top.
  const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  mountAt("shm", SHARED_MEMORY, "tmpfs", flags, `mode=1777,size=${size}`);
  sharedMemoryBytes = size;
}
