/**
 * The files of a container or exec, handed to the pod process as open descriptors. That process sees
 * none of the host's files: what a container is made of is opened here, as copies of mounts that lead
 * nowhere else, and the specification names descriptors in the place of paths.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type {
  BindMountSpec,
  ContainerSpec,
  ExecSpec,
  StdioSpec,
  StreamSpec,
} from "../../lifecycle/spec.ts";
import { type FileCalls, openFiles } from "../files.ts";
import { systemError } from "../native/errno.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";
import { DESCRIPTORS_MAX } from "./sockets.ts";

/** A specification whose paths were replaced, and the descriptors that stand for them. */
export interface PassedFiles<S> extends Disposable {
  /** What the pod process gets; each path is `descriptor:N`, an index into the list. */
  readonly spec: S;
  /** Open until disposed of. */
  readonly descriptors: readonly number[];
}

const PREFIX = "descriptor:";

/**
 * Opens the files of a container.
 *
 * @param calls Opens and mounts; privileged.
 * @param spec The container; its root file system is in place.
 * @param more What is mounted beside the container's own mounts.
 * @throws {SandboxError} As {@link openFiles}, and for a stream that is not there.
 */
export function passContainer(
  calls: FileCalls,
  spec: ContainerSpec,
  more: readonly BindMountSpec[],
): PassedFiles<ContainerSpec> {
  using opened = new DisposableStack();
  const descriptors: number[] = [];
  const files = opened.use(openFiles(calls, spec, more));
  const pass = (fd: number): string => {
    descriptors.push(fd);
    return `${PREFIX}${descriptors.length - 1}`;
  };
  const copy = (fd: number): string => {
    // Of a mount that is somewhere, ".." leads out of it; of a copy it does not.
    const tree = calls.trees === undefined ? fd : calls.trees.copy(fd);
    if (tree !== fd) opened.adopt(tree, (open) => calls.system.close(open));
    return pass(tree);
  };
  const root = files.preopens.find(({ guestPath }) => guestPath === "/");
  const passed: ContainerSpec = {
    ...spec,
    rootfs: { kind: "directory", path: copy(files.root) },
    readonlyRootfs: root?.readonly ?? spec.readonlyRootfs,
    mounts: files.preopens.filter((preopen) => preopen !== root).map((preopen) => ({
      source: copy(preopen.fd),
      destination: preopen.guestPath,
      readonly: preopen.readonly,
    })),
    stdio: passStdio(calls.system, spec.stdio, pass, opened),
  };
  return finish(passed, descriptors, opened);
}

/**
 * Opens the files of an exec: its streams.
 *
 * @param system Opens them.
 * @param spec The exec.
 * @throws {SandboxError} `NotFound` for a stream that is not there.
 */
export function passExec(system: System, spec: ExecSpec): PassedFiles<ExecSpec> {
  using opened = new DisposableStack();
  const descriptors: number[] = [];
  const pass = (fd: number): string => {
    descriptors.push(fd);
    return `${PREFIX}${descriptors.length - 1}`;
  };
  const stdio = passStdio(system, spec.stdio, pass, opened);
  return finish({ ...spec, stdio }, descriptors, opened);
}

function finish<S>(
  spec: S,
  descriptors: readonly number[],
  opened: DisposableStack,
): PassedFiles<S> {
  if (descriptors.length > DESCRIPTORS_MAX) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot pass ${descriptors.length} files to the pod process: most are ${DESCRIPTORS_MAX}: ` +
        "use fewer mounts",
    );
  }
  const release = opened.move();
  return { spec, descriptors, [Symbol.dispose]: () => release.dispose() };
}

function passStdio(
  system: System,
  stdio: StdioSpec,
  pass: (fd: number) => string,
  opened: DisposableStack,
): StdioSpec {
  const stream = (name: string, from: StreamSpec): StreamSpec => {
    if (from.kind === "null") return from;
    if (from.kind === "fd") return { kind: "fd", fd: indexOf(pass(from.fd)) };
    if (from.kind !== "path") {
      throw new SandboxError(
        "InvalidArgument",
        `cannot pass ${name} to the pod's process: expected a path or a descriptor`,
      );
    }
    // It only names the file: a FIFO has neither a reader nor a writer more.
    const fd = system.openAt(AT_FDCWD, from.path, OPEN.path, 0);
    if (fd < 0) throw systemError(`cannot open ${name} "${from.path}"`, -fd);
    opened.adopt(fd, (open) => system.close(open));
    return { kind: "path", path: pass(fd) };
  };
  return {
    stdin: stream("stdin", stdio.stdin),
    stdout: stream("stdout", stdio.stdout),
    stderr: stream("stderr", stdio.stderr),
    terminal: stdio.terminal,
  };
}

/**
 * Puts the descriptors that arrived into a container's specification.
 *
 * @param spec As {@link passContainer} made it.
 * @param descriptors In the same order, with the numbers that they have here.
 */
export function placeContainer(
  spec: ContainerSpec,
  descriptors: readonly number[],
): ContainerSpec {
  const { rootfs } = spec;
  const path = rootfs.kind === "directory" ? rootfs.path : rootfs.target;
  return {
    ...spec,
    rootfs: { kind: "directory", path: placed(path, descriptors) },
    mounts: spec.mounts.map((mount) => ({ ...mount, source: placed(mount.source, descriptors) })),
    stdio: placeStdio(spec.stdio, descriptors),
  };
}

/** Puts the descriptors that arrived into an exec's specification; see {@link placeContainer}. */
export function placeExec(spec: ExecSpec, descriptors: readonly number[]): ExecSpec {
  return { ...spec, stdio: placeStdio(spec.stdio, descriptors) };
}

function placeStdio(stdio: StdioSpec, descriptors: readonly number[]): StdioSpec {
  const stream = (from: StreamSpec): StreamSpec => {
    if (from.kind === "null") return from;
    if (from.kind === "fd") return { kind: "fd", fd: descriptors[from.fd] ?? -1 };
    return from.kind === "path" ? { kind: "path", path: placed(from.path, descriptors) } : from;
  };
  return {
    stdin: stream(stdio.stdin),
    stdout: stream(stdio.stdout),
    stderr: stream(stdio.stderr),
    terminal: stdio.terminal,
  };
}

function placed(path: string, descriptors: readonly number[]): string {
  const fd = descriptors[indexOf(path)];
  if (fd !== undefined) return `/proc/self/fd/${fd}`;
  throw new SandboxError("InvalidArgument", `cannot use the path "${path}": it was not passed`);
}

function indexOf(path: string): number {
  return path.startsWith(PREFIX) ? Number(path.slice(PREFIX.length)) : -1;
}
