/**
 * What the lifecycle knows, as messages of the management API: for people and programs, so without
 * values of the environment and without what repeats them.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ContainerSchema,
  type ExitSchema,
  type ProcessSchema,
  ProcessState,
  type SandboxSchema,
  SandboxState,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import type {
  ContainerSpec,
  Exit,
  Json,
  NetworkSpec,
  ProcessSpec,
  StdioSpec,
  StreamSpec,
} from "../lifecycle/spec.ts";
import type { ContainerView, ProcessView, SandboxView } from "../lifecycle/view.ts";
import { isManaged } from "./ports.ts";

/** A sandbox as it is sent. */
export type SandboxMessage = MessageInitShape<typeof SandboxSchema>;

/** How something ended, as it is sent. */
export type ExitMessage = MessageInitShape<typeof ExitSchema>;

/** Annotations that say what a container is called: containerd's, and that of `quasaur run`. */
const NAME_ANNOTATIONS = [
  "io.kubernetes.cri.container-name",
  "management.quasaur.dev/container-name",
];

/** Annotations that say what image a container is of. */
const IMAGE_ANNOTATIONS = ["io.kubernetes.cri.image-name", "quasaur.dev/image"];

/** kubectl keeps the whole pod in it, values of its environment too. */
const HIDDEN_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration";

const SANDBOX_STATES: Readonly<Record<SandboxView["state"], SandboxState>> = {
  created: SandboxState.CREATED,
  starting: SandboxState.STARTING,
  ready: SandboxState.READY,
  stopping: SandboxState.STOPPING,
  stopped: SandboxState.STOPPED,
  failed: SandboxState.FAILED,
};

const PROCESS_STATES: Readonly<Record<ProcessView["state"], ProcessState>> = {
  created: ProcessState.CREATED,
  running: ProcessState.RUNNING,
  paused: ProcessState.PAUSED,
  stopped: ProcessState.STOPPED,
};

/** A container's name as its maker gave it; empty for none. */
export function containerName({ annotations }: ContainerSpec): string {
  return firstOf(annotations, NAME_ANNOTATIONS);
}

function firstOf(
  annotations: Readonly<Record<string, string>>,
  names: readonly string[],
): string {
  return names.map((name) => annotations[name]).find((value) => value !== undefined) ?? "";
}

/**
 * A sandbox with its containers and processes.
 *
 * @param sandboxer Where its containers are looked up.
 * @param view The sandbox.
 */
export function sandboxMessage(sandboxer: Sandboxer, view: SandboxView): SandboxMessage {
  const { spec } = view;
  return {
    id: spec.id,
    name: spec.name,
    namespace: spec.namespace,
    kind: sandboxer.driver.kind,
    state: SANDBOX_STATES[view.state],
    createdAt: timestampFromMs(view.createdAt),
    pid: view.pid,
    ...(view.exit === undefined ? {} : { exit: exitMessage(view.exit) }),
    labels: { ...spec.labels },
    annotations: shownAnnotations(spec.annotations),
    runtime: spec.runtime ?? "",
    network: networkText(spec.network),
    containers: view.containerIds.map((id) => containerMessage(sandboxer, sandboxer.container(id))),
    managed: isManaged(spec),
  };
}

function shownAnnotations(annotations: Readonly<Record<string, string>>): Record<string, string> {
  const { [HIDDEN_ANNOTATION]: _hidden, ...shown } = annotations;
  return shown;
}

function networkText(network: NetworkSpec): string {
  return network.kind === "namespace" ? network.path : network.kind;
}

function containerMessage(
  sandboxer: Sandboxer,
  { spec, state, execIds }: ContainerView,
): MessageInitShape<typeof ContainerSchema> {
  const init = sandboxer.process(spec.id, "");
  return {
    id: spec.id,
    name: containerName(spec),
    image: firstOf(spec.annotations, IMAGE_ANNOTATIONS),
    state: PROCESS_STATES[state],
    pid: init.pid,
    args: [...spec.process.args],
    terminal: spec.stdio.terminal,
    ...(init.exit === undefined ? {} : { exit: exitMessage(init.exit) }),
    execs: execIds.map((execId) => processMessage(sandboxer.process(spec.id, execId))),
  };
}

function processMessage(
  { execId, state, pid, exit, args }: ProcessView,
): MessageInitShape<typeof ProcessSchema> {
  return {
    execId,
    state: PROCESS_STATES[state],
    pid,
    args: [...args],
    ...(exit === undefined ? {} : { exit: exitMessage(exit) }),
  };
}

/** How something ended. */
export function exitMessage({ status, at, reason, message = "" }: Exit): ExitMessage {
  return { status, at: timestampFromMs(at), reason, message };
}

/**
 * Everything that is known of a sandbox, as JSON for people.
 *
 * @param sandboxer Where its containers are looked up.
 * @param view The sandbox.
 * @param more What others know of it; undefined for nothing.
 */
export function sandboxDetail(
  sandboxer: Sandboxer,
  view: SandboxView,
  more: Json | undefined,
): Json {
  const { spec, state, createdAt, pid, taskSocket, exit, containerIds } = view;
  return plain({
    ...spec,
    annotations: shownAnnotations(spec.annotations),
    kind: sandboxer.driver.kind,
    state,
    createdAt: new Date(createdAt).toISOString(),
    pid,
    taskSocket,
    exit: exit === undefined ? undefined : exitDetail(exit),
    managed: isManaged(spec),
    containers: containerIds.map((id) => containerDetail(sandboxer, sandboxer.container(id))),
    run: more,
  });
}

function containerDetail(sandboxer: Sandboxer, { spec, state, execIds }: ContainerView): unknown {
  const { pid, exit } = sandboxer.process(spec.id, "");
  const { seccomp, ...rest } = spec;
  return {
    ...rest,
    name: containerName(spec),
    image: firstOf(spec.annotations, IMAGE_ANNOTATIONS),
    annotations: shownAnnotations(spec.annotations),
    process: processDetail(spec.process),
    stdio: stdioDetail(spec.stdio),
    state,
    pid,
    exit: exit === undefined ? undefined : exitDetail(exit),
    // Hundreds of names of system calls tell people nothing.
    seccomp: seccomp === undefined ? undefined : { rules: seccomp.rules.length },
    execs: execIds.map((execId) => execDetail(sandboxer.process(spec.id, execId))),
  };
}

function execDetail({ execId, state, pid, stdio, exit, args }: ProcessView): unknown {
  return {
    id: execId,
    state,
    pid,
    args,
    stdio: stdioDetail(stdio),
    exit: exit === undefined ? undefined : exitDetail(exit),
  };
}

/** A process with the names of its environment only. */
function processDetail({ env, ...process }: ProcessSpec): unknown {
  return { ...process, envNames: env.map((entry) => entry.split("=", 1)[0] ?? "") };
}

function stdioDetail({ stdin, stdout, stderr, ...rest }: StdioSpec): unknown {
  return {
    ...rest,
    stdin: streamText(stdin),
    stdout: streamText(stdout),
    stderr: streamText(stderr),
  };
}

function streamText(stream: StreamSpec): string {
  return stream.kind === "path" ? stream.path : stream.kind;
}

function exitDetail({ at, ...exit }: Exit): unknown {
  return { ...exit, at: new Date(at).toISOString() };
}

/** Without what is undefined, and nothing but JSON. */
function plain(value: unknown): Json {
  const parsed: Json = JSON.parse(JSON.stringify(value));
  return parsed;
}
