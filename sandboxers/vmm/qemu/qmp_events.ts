/**
 * The events of QMP that we use, checked. Source: QEMU's qapi/run-state.json, qdev.json and
 * migration.json.
 *
 * @module
 */

import type { Json } from "../../lifecycle/spec.ts";

/** Why a QEMU shuts down: those of QEMU's ShutdownCause that we tell apart, and the others. */
export type ShutdownReason =
  | "host-qmp-quit"
  | "host-signal"
  | "guest-shutdown"
  | "guest-reset"
  | "guest-panic"
  | "other";

/** An event that we use. */
export type QmpEvent =
  /** QEMU ends. */
  | { readonly kind: "SHUTDOWN"; readonly reason: ShutdownReason }
  /** The machine stands still. */
  | { readonly kind: "STOP" }
  /** The machine runs. */
  | { readonly kind: "RESUME" }
  /** The guest's kernel gave up. */
  | { readonly kind: "GUEST_PANICKED" }
  /** A device that was told to go has gone. */
  | { readonly kind: "DEVICE_DELETED"; readonly device: string }
  /** The guest did not let a device go. */
  | { readonly kind: "DEVICE_UNPLUG_GUEST_ERROR"; readonly device: string }
  /** A save or load has got further. */
  | { readonly kind: "MIGRATION"; readonly status: string };

const SHUTDOWN_REASONS: ReadonlySet<string> = new Set<ShutdownReason>([
  "host-qmp-quit",
  "host-signal",
  "guest-shutdown",
  "guest-reset",
  "guest-panic",
]);

function isShutdownReason(reason: unknown): reason is ShutdownReason {
  return typeof reason === "string" && SHUTDOWN_REASONS.has(reason);
}

/**
 * Reads an event.
 *
 * @param message A message with the member `event`.
 * @returns undefined for an event that we do not use.
 */
export function readEvent(message: Readonly<Record<string, Json>>): QmpEvent | undefined {
  const { event, data } = message;
  const field = (name: string): string => {
    if (typeof data !== "object" || data === null) return "";
    const value: unknown = Reflect.get(data, name);
    return typeof value === "string" ? value.slice(0, 200) : "";
  };
  switch (event) {
    case "SHUTDOWN": {
      const reason = field("reason");
      return { kind: event, reason: isShutdownReason(reason) ? reason : "other" };
    }
    case "STOP":
    case "RESUME":
    case "GUEST_PANICKED":
      return { kind: event };
    case "DEVICE_DELETED":
    case "DEVICE_UNPLUG_GUEST_ERROR":
      return { kind: event, device: field("device") };
    case "MIGRATION":
      return { kind: event, status: field("status") };
    default:
      return undefined;
  }
}
