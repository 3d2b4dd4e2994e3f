/**
 * Lifecycle events as containerd's task events: topic, and message packed as an Any.
 *
 * Source: containerd core/runtime/events.go (topics), api/events/task.proto (messages).
 *
 * @module
 */

import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  TaskCreateSchema,
  TaskDeleteSchema,
  TaskExecAddedSchema,
  TaskExecStartedSchema,
  TaskExitSchema,
  TaskOOMSchema,
  TaskPausedSchema,
  TaskResumedSchema,
  TaskStartSchema,
} from "../proto/gen/containerd/events/task_pb.ts";
import { type Envelope, EnvelopeSchema } from "../proto/gen/containerd/types/types_pb.ts";
import type { LifecycleEvent } from "../sandboxers/lifecycle/events.ts";
import type { ContainerSpec } from "../sandboxers/lifecycle/spec.ts";
import { streamPath } from "./stdio.ts";
import { exitMessage } from "./task_messages.ts";

/**
 * The envelope of an event.
 *
 * @returns Undefined for what containerd has no task event for: everything about sandboxes, and the
 *   deletion of an exec (shims do not publish that either; clients would take it for the task's).
 */
export function envelopeOf(event: LifecycleEvent): Envelope | undefined {
  const packed = packedEvent(event);
  if (packed === undefined) return undefined;
  return create(EnvelopeSchema, {
    timestamp: timestampFromMs(event.at),
    namespace: event.namespace,
    topic: packed.topic,
    event: packed.event,
  });
}

/** A topic and the event as an Any; the type URL is the bare name, as containerd's registry has it. */
interface PackedEvent {
  readonly topic: string;
  readonly event: { readonly typeUrl: string; readonly value: Uint8Array };
}

function pack<D extends DescMessage>(
  topic: string,
  schema: D,
  message: MessageInitShape<D>,
): PackedEvent {
  const value = toBinary(schema, create(schema, message));
  return { topic, event: create(AnySchema, { typeUrl: schema.typeName, value }) };
}

function packedEvent(event: LifecycleEvent): PackedEvent | undefined {
  switch (event.kind) {
    case "container-created":
      return pack("/tasks/create", TaskCreateSchema, createdMessage(event.spec));
    case "process-started":
      return startedEvent(event.containerId, event.execId, event.pid);
    case "exec-added":
      return pack("/tasks/exec-added", TaskExecAddedSchema, {
        containerId: event.containerId,
        execId: event.spec.id,
      });
    case "process-exited":
      return pack("/tasks/exit", TaskExitSchema, {
        containerId: event.containerId,
        id: event.execId === "" ? event.containerId : event.execId,
        pid: event.pid,
        ...exitMessage(event.exit),
      });
    case "container-oom":
      return pack("/tasks/oom", TaskOOMSchema, { containerId: event.containerId });
    case "container-paused":
      return pack("/tasks/paused", TaskPausedSchema, { containerId: event.containerId });
    case "container-resumed":
      return pack("/tasks/resumed", TaskResumedSchema, { containerId: event.containerId });
    case "process-deleted":
      if (event.execId !== "") return undefined;
      return pack("/tasks/delete", TaskDeleteSchema, {
        containerId: event.containerId,
        pid: event.pid,
        ...exitMessage(event.exit),
      });
    case "sandbox-created":
    case "sandbox-started":
    case "sandbox-failed":
    case "sandbox-stopped":
    case "sandbox-deleted":
      return undefined;
  }
}

function startedEvent(containerId: string, execId: string, pid: number): PackedEvent {
  return execId === ""
    ? pack("/tasks/start", TaskStartSchema, { containerId, pid })
    : pack("/tasks/exec-started", TaskExecStartedSchema, { containerId, execId, pid });
}

function createdMessage(spec: ContainerSpec): MessageInitShape<typeof TaskCreateSchema> {
  const { stdio, rootfs } = spec;
  return {
    containerId: spec.id,
    bundle: spec.bundle,
    rootfs: rootfs.kind === "directory" ? [] : rootfs.mounts.map((mount) => ({
      type: mount.type,
      source: mount.source,
      options: [...mount.options],
    })),
    io: {
      stdin: streamPath(stdio.stdin),
      stdout: streamPath(stdio.stdout),
      stderr: streamPath(stdio.stderr),
      terminal: stdio.terminal,
    },
  };
}
