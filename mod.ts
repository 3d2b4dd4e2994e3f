/**
 * Runs WebAssembly modules in sandboxes of this process, and Linux programs in microVMs or in gVisor,
 * without containerd. Open a sandboxer, create a sandbox, run a module, read what it writes:
 *
 * ```ts ignore
 * import { open } from "@quasaur/quasaur";
 *
 * await using sandboxer = await open("wasm");
 * await using sandbox = await sandboxer.createSandbox();
 * await using container = await sandbox.run({ module: "hello.wasm", args: ["world"] });
 * for await (const text of container.stdout.pipeThrough(new TextDecoderStream())) {
 *   console.log(text);
 * }
 * console.log((await container.exit).status);
 * ```
 *
 * A microVM is opened in the same way, and runs a command of a root file system:
 *
 * ```ts ignore
 * await using sandboxer = await open("vmm");
 * await using sandbox = await sandboxer.createSandbox({ memoryBytes: 256 << 20 });
 * await using container = await sandbox.run({ rootfs: "./alpine", command: ["uname", "-r"] });
 * console.log(new TextDecoder().decode((await container.output()).stdout));
 * ```
 *
 * A machine that runs can be saved with its memory, and forked: what runs in it goes on in each of
 * them.
 *
 * ```ts ignore
 * await sandbox.snapshot("/var/lib/warm");
 * await using other = await sandboxer.restore("/var/lib/warm");
 * const server = other.containers.get(container.id);
 * await using third = await other.fork();
 * ```
 *
 * gVisor runs commands over an application kernel: it starts quickly, needs nothing of the processor,
 * and sees what the root file system's directory holds.
 *
 * ```ts ignore
 * await using sandboxer = await open("gvisor");
 * await using sandbox = await sandboxer.createSandbox({ network: { kind: "host" } });
 * await using container = await sandbox.run({ rootfs: "./alpine", command: ["dmesg"] });
 * console.log(new TextDecoder().decode((await container.output()).stdout));
 * ```
 *
 * A sandboxer that runs already, for containerd, shows what it has:
 *
 * ```ts ignore
 * import { connect } from "@quasaur/quasaur";
 *
 * using sandboxer = await connect("wasm");
 * for (const { id, name, state } of await sandboxer.list()) console.log(id, name, state);
 * for await (const { type, sandboxId } of sandboxer.events()) console.log(type, sandboxId);
 * ```
 *
 * Whatever fails throws a {@link SandboxError}, whose code says what kind of failure it is.
 *
 * @module
 */

export { connect } from "./sandboxers/client/connect.ts";
export type {
  ConnectedCallOptions,
  ConnectedExecOptions,
  ContainerStatus,
  ContainerUsage,
  FoundTarget,
  LogLine,
  LogLinesOptions,
  NewLimits,
  ProcessStatus,
  RunningSandboxer,
  SandboxChanges,
  SandboxerEvent,
  SandboxerEventsOptions,
  SandboxerInfo,
  SandboxerStatsOptions,
  SandboxStatus,
  SandboxUsage,
} from "./sandboxers/client/api.ts";
export type { ProcessStateName, SandboxStateName } from "./sandboxers/client/state_names.ts";
export { open } from "./sandboxers/embedded/open.ts";
export type {
  Container,
  DirectoryMount,
  ImageOptions,
  ImageProgress,
  OpenOptions,
  Output,
  OutputOptions,
  RunOptions,
  Sandbox,
  Sandboxer,
  SandboxKind,
  SandboxOptions,
  StdioMode,
  WasmEngine,
} from "./sandboxers/embedded/api.ts";
export type {
  GvisorOpenOptions,
  GvisorRestoredSandbox,
  GvisorRestoreOptions,
  GvisorRunOptions,
  GvisorSandbox,
  GvisorSandboxer,
  GvisorSandboxOptions,
  GvisorSnapshotOptions,
} from "./sandboxers/embedded/gvisor_api.ts";
export type {
  LinuxContainer,
  LinuxProcess,
  LinuxProcessOptions,
  LinuxRunOptions,
  LinuxUser,
  TerminalSize,
} from "./sandboxers/embedded/linux_api.ts";
export type {
  VmmContainer,
  VmmOpenOptions,
  VmmProcess,
  VmmProcessOptions,
  VmmRestoredSandbox,
  VmmRestoreOptions,
  VmmRunOptions,
  VmmSandbox,
  VmmSandboxer,
  VmmSandboxOptions,
  VmmSnapshotOptions,
  VmmUser,
} from "./sandboxers/embedded/vmm_api.ts";
export { type ErrorCode, type ErrorContext, SandboxError } from "./sandboxers/lifecycle/errors.ts";
export type { Exit, NetworkSpec, PublishedPort, Stats } from "./sandboxers/lifecycle/spec.ts";
export type { UserChoice } from "./sandboxers/images/process.ts";
