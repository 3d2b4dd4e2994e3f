/**
 * What the lifecycle tells the world: one event per thing that happened, in order, synchronously
 * after the state has changed. Adapters turn them into containerd's task events, logs and metrics.
 *
 * @module
 */

import type { ContainerSpec, ExecSpec, Exit } from "./spec.ts";

/** One thing that happened. `namespace` is the containerd namespace of the sandbox. */
export type LifecycleEvent =
  & { readonly namespace: string; readonly sandboxId: string; readonly at: number }
  & (
    | { readonly kind: "sandbox-created" }
    | { readonly kind: "sandbox-started"; readonly pid: number }
    | { readonly kind: "sandbox-failed"; readonly message: string }
    | { readonly kind: "sandbox-stopped"; readonly exit: Exit }
    | { readonly kind: "sandbox-deleted" }
    | {
      readonly kind: "container-created";
      readonly containerId: string;
      readonly spec: ContainerSpec;
    }
    | {
      readonly kind: "process-started";
      readonly containerId: string;
      readonly execId: string;
      readonly pid: number;
    }
    | { readonly kind: "exec-added"; readonly containerId: string; readonly spec: ExecSpec }
    | {
      readonly kind: "process-exited";
      readonly containerId: string;
      /** Empty for the init process. */
      readonly execId: string;
      readonly pid: number;
      readonly exit: Exit;
    }
    | { readonly kind: "container-oom"; readonly containerId: string }
    | { readonly kind: "container-paused"; readonly containerId: string }
    | { readonly kind: "container-resumed"; readonly containerId: string }
    | {
      readonly kind: "process-deleted";
      readonly containerId: string;
      /** Empty for the init process, that is for the container itself. */
      readonly execId: string;
      readonly pid: number;
      readonly exit: Exit;
    }
  );

/** Receives events. It must not throw and must not wait. */
export type EventListener = (event: LifecycleEvent) => void;
