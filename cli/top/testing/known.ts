/**
 * Models and scenes with pods that tests make up.
 *
 * @module
 */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  EventSchema,
  InfoResponseSchema,
  ProcessState,
  type SandboxSchema,
  SandboxState,
  StatsResponseSchema,
  WatchResponseSchema,
} from "../../../proto/gen/quasaur/management/v1/management_pb.ts";
import { firstScreen, type Screen } from "../interaction.ts";
import { TopModel } from "../model.ts";
import type { Scene, Size } from "../scene.ts";

/** The time in tests, in milliseconds since the epoch. */
export const NOW_MS = 1_700_000_000_000;

/** The socket of the sandboxer in tests. */
export const ADDRESS = "/run/quasaur/wasm.sock";

/** A pod with one container. */
export function pod(
  name: string,
  more: MessageInitShape<typeof SandboxSchema> = {},
): MessageInitShape<typeof SandboxSchema> {
  return {
    id: `id-${name}`,
    name,
    namespace: "k8s.io",
    kind: "wasm",
    state: SandboxState.READY,
    createdAt: timestampFromMs(NOW_MS - 60_000),
    containers: [{ id: `c-${name}`, name: "main", image: "hub/app", state: ProcessState.RUNNING }],
    ...more,
  };
}

/** Feeds a model as a sandboxer does. */
export class Feed {
  /** The model. */
  readonly model = new TopModel();

  /** A sandboxer that answers. */
  constructor(readonly address = ADDRESS, readonly kind = "wasm") {
    this.answer();
  }

  /** It answers. */
  answer(atMs = NOW_MS): void {
    const info = create(InfoResponseSchema, { kind: this.kind, version: "1.2.3" });
    this.model.answered(this.address, info, 2, atMs);
  }

  /** It tells of pods that are there and of ids that are not any more. */
  watch(
    sandboxes: readonly MessageInitShape<typeof SandboxSchema>[],
    removedIds: readonly string[] = [],
  ): void {
    const message = create(WatchResponseSchema, {
      sandboxes: [...sandboxes],
      removedIds: [...removedIds],
    });
    this.model.watched(this.address, message, NOW_MS);
  }

  /** It has measured a pod. */
  measure(name: string, cpuMs: number, memoryBytes: number, atMs: number): void {
    const usage = {
      at: timestampFromMs(atMs),
      cpuNs: BigInt(cpuMs) * 1_000_000n,
      memoryBytes: BigInt(memoryBytes),
      pids: 1,
    };
    const containers = [{ containerId: `c-${name}`, usage }];
    const message = create(StatsResponseSchema, {
      sandboxes: [{ sandboxId: `id-${name}`, usage, containers }],
    });
    this.model.measured(this.address, message, atMs);
  }

  /** Something has happened. */
  event(atMs: number, init: MessageInitShape<typeof EventSchema>): void {
    const event = create(EventSchema, { at: timestampFromMs(atMs), ...init });
    this.model.happened(this.address, event, atMs);
  }

  /** What a picture is made of. */
  scene(size: Size, screen: Partial<Screen> = {}): Scene {
    return {
      size,
      nowMs: NOW_MS,
      intervalMs: 2_000,
      sandboxers: this.model.sandboxers(NOW_MS),
      places: [this.address],
      pods: this.model.pods(),
      events: this.model.events(),
      logs: [],
      screen: { ...firstScreen("cpu"), ...screen },
    };
  }
}
