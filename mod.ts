/**
 * Runs WebAssembly modules in sandboxes, in this process, without containerd and without a process
 * for each. Open a sandboxer, create a sandbox, run a module, read what it writes:
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
 * Whatever fails throws a {@link SandboxError}, whose code says what kind of failure it is.
 *
 * @module
 */

export { open } from "./sandboxers/embedded/open.ts";
export type {
  Container,
  DirectoryMount,
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
export { type ErrorCode, type ErrorContext, SandboxError } from "./sandboxers/lifecycle/errors.ts";
export type { Exit, NetworkSpec, Stats } from "./sandboxers/lifecycle/spec.ts";
