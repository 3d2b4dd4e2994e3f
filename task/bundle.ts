/**
 * A Create request and the bundle it names, as a ContainerSpec. Everything is checked here, once;
 * nobody behind this file sees protobuf, JSON or containerd's directory layout.
 *
 * Source: containerd core/runtime/v2/shim_manager.go writes `<bundle>/sandbox`, bundle.go the rest.
 *
 * @module
 */

import { join } from "node:path";
import type { CreateTaskRequest } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import type { Mount } from "../proto/gen/containerd/types/types_pb.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { checkId } from "../sandboxers/lifecycle/ids.ts";
import type { ContainerSpec, RootfsMount, RootfsSpec } from "../sandboxers/lifecycle/spec.ts";
import { JsonField } from "./json_field.ts";
import { decodeConfig } from "./oci.ts";
import { decodeStdio } from "./stdio.ts";

/** Most bytes of a config.json. */
const MAX_CONFIG_BYTES = 8 << 20;
/** Most bytes of the file that names the sandbox. */
const MAX_SANDBOX_FILE_BYTES = 1 << 10;
/** Types of mounts that make up a root file system. */
const ROOTFS_TYPES: ReadonlySet<string> = new Set(["overlay", "bind"]);

/**
 * Reads the bundle of a Create request.
 *
 * @param request The request.
 * @throws SandboxError `InvalidArgument` naming the field or file, what was found and what is
 *   expected; `PermissionDenied` where a file may not be read.
 */
export async function readContainerSpec(request: CreateTaskRequest): Promise<ContainerSpec> {
  const { id, bundle } = request;
  checkId("container id", id);
  if (request.checkpoint !== "") {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create container "${id}" from checkpoint ${JSON.stringify(request.checkpoint)}: ` +
        "checkpoints are not supported, expected an empty field",
    );
  }
  const stdio = decodeStdio(request);
  await checkBundle(bundle);
  const configPath = join(bundle, "config.json");
  const [configBytes, sandboxId] = await Promise.all([
    readSmallFile(configPath, MAX_CONFIG_BYTES),
    readSandboxId(bundle),
  ]);
  const config = decodeConfig(JsonField.parse(`"${configPath}"`, configBytes), bundle);
  return {
    id,
    sandboxId,
    bundle,
    rootfs: decodeRootfs(request.rootfs, bundle, config.rootPath),
    readonlyRootfs: config.readonlyRootfs,
    process: config.process,
    mounts: config.mounts,
    stdio,
    resources: config.resources,
    annotations: config.annotations,
    ...(config.seccomp === undefined ? {} : { seccomp: config.seccomp }),
  };
}

async function checkBundle(bundle: string): Promise<void> {
  const found = JSON.stringify(bundle);
  if (!bundle.startsWith("/") || bundle.includes("\0")) {
    throw new SandboxError("InvalidArgument", `bundle is ${found}, expected an absolute path`);
  }
  const directory = await statOf(bundle);
  if (directory?.isDirectory === true) return;
  throw new SandboxError(
    "InvalidArgument",
    `bundle ${found} is ${directory === undefined ? "not there" : "no directory"}, expected the ` +
      "directory that containerd makes for the task",
  );
}

async function readSandboxId(bundle: string): Promise<string> {
  const path = join(bundle, "sandbox");
  const id = new TextDecoder().decode(await readSmallFile(path, MAX_SANDBOX_FILE_BYTES));
  checkId(`sandbox id in "${path}"`, id);
  return id;
}

/** Reads a file of bounded size; only regular files, because a FIFO would hold the reader up. */
async function readSmallFile(path: string, maxBytes: number): Promise<Uint8Array> {
  const invalid = (problem: string): SandboxError =>
    new SandboxError("InvalidArgument", `cannot read "${path}": ${problem}`);
  const info = await statOf(path);
  if (info === undefined) throw invalid("it is missing, expected containerd to have written it");
  if (!info.isFile) throw invalid("it is no regular file");
  if (info.size > maxBytes) throw invalid(`${info.size} bytes, at most ${maxBytes} are allowed`);
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw readError(path, error);
  }
}

async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.NotADirectory) return undefined;
    throw readError(path, error);
  }
}

/** Never `NotFound`: to containerd that would mean that there is no such task. */
function readError(path: string, error: unknown): SandboxError {
  const { code, message } = SandboxError.from(error, `cannot read "${path}"`);
  return new SandboxError(code === "NotFound" ? "InvalidArgument" : code, message, {
    cause: error,
  });
}

/** Mounts that the lifecycle makes, or without any the directory that config.json names. */
function decodeRootfs(mounts: readonly Mount[], bundle: string, rootPath: string): RootfsSpec {
  if (mounts.length === 0) return { kind: "directory", path: rootPath };
  return {
    kind: "mounts",
    target: join(bundle, "rootfs"),
    mounts: mounts.map(decodeRootfsMount),
  };
}

function decodeRootfsMount(mount: Mount, index: number): RootfsMount {
  const { type, source, target, options } = mount;
  const invalid = (field: string, found: string, expected: string): SandboxError =>
    new SandboxError(
      "InvalidArgument",
      `cannot use rootfs[${index}].${field}: found ${JSON.stringify(found)}, expected ${expected}`,
    );
  if (!ROOTFS_TYPES.has(type)) {
    throw invalid("type", type, `${[...ROOTFS_TYPES].join(" or ")}; choose another snapshotter`);
  }
  if (source === "" || source.includes("\0")) {
    throw invalid("source", source, "a path or name without NUL characters");
  }
  if (target !== "" && target !== "/") {
    throw invalid("target", target, "nothing: mounts below the root are not supported");
  }
  for (const [at, option] of options.entries()) {
    if (option === "" || option.includes("\0")) {
      throw invalid(`options[${at}]`, option, "a mount option without NUL characters");
    }
  }
  return { type, source, options: [...options] };
}
