/**
 * Devices of containers. A guest has none of the host's; those that are the same on every Linux can
 * be had by their numbers.
 *
 * @module
 */

import type { JsonObject } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { numberOf, objectsOf, stringOf } from "../../oci/json.ts";

/**
 * Character devices that every kernel has under the same numbers, as `major:minor`.
 * Source: linux Documentation/admin-guide/devices.txt.
 */
const COMMON_DEVICES: ReadonlySet<string> = new Set([
  "1:3", // null
  "1:5", // zero
  "1:7", // full
  "1:8", // random
  "1:9", // urandom
  "1:11", // kmsg
  "5:0", // tty
  "5:1", // console
  "5:2", // ptmx
  "10:200", // net/tun
  "10:229", // fuse
  "10:237", // loop-control
]);

/**
 * `linux.devices` for the guest.
 *
 * @param linux The `linux` object of a config.json.
 * @throws {SandboxError} `FailedPrecondition` for a device of the host, unless the container is
 *   privileged: that brings all devices of the host, and means those of its machine.
 */
export function guestDevices(linux: JsonObject, privileged: boolean): readonly JsonObject[] {
  return objectsOf(linux, "devices").filter((device) => {
    const numbers = `${numberOf(device, "major") ?? 0}:${numberOf(device, "minor") ?? 0}`;
    const isCommon = COMMON_DEVICES.has(numbers) && ["c", "u"].includes(stringOf(device, "type"));
    if (isCommon || stringOf(device, "type") === "p" || privileged) {
      return isCommon || stringOf(device, "type") === "p";
    }
    throw new SandboxError(
      "FailedPrecondition",
      `device "${stringOf(device, "path")}" (${numbers}) of the host cannot be given to a ` +
        "container in a microVM: take it out, or run the pod with another runtime",
    );
  });
}

/**
 * Whether a container may use every device, as a privileged one may. That is harmless to the host:
 * they are its machine's.
 *
 * @param resources The `linux.resources` object of a config.json.
 */
export function isPrivileged(resources: JsonObject): boolean {
  const rule = objectsOf(resources, "devices").at(-1);
  return rule?.["allow"] === true && stringOf(rule, "access") === "rwm" &&
    ["", "a"].includes(stringOf(rule, "type")) &&
    (numberOf(rule, "major") ?? -1) < 0 && (numberOf(rule, "minor") ?? -1) < 0;
}
