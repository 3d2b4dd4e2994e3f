/**
 * Annotations by which other runtimes are told to run a container as WebAssembly. What asks for what
 * happens here anyway is accepted; what asks for something else is refused, so that nobody believes
 * that it was heard.
 *
 * They come with the pod, or with the container where containerd's `container_annotations` or
 * `pod_annotations` of the runtime handler let them through.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Accepted values by annotation. */
const ACCEPTED: Readonly<Record<string, readonly string[]>> = {
  // Of the "compat" form of wasm images: an ordinary image whose entrypoint is a module. The "smart"
  // one of crun runs other entrypoints as native programs, which a wasm sandbox refuses by itself.
  // Sources: solo-io/wasm spec-compat.md, crun docs/wasm-wasi-on-kubernetes.md.
  "module.wasm.image/variant": ["compat", "compat-smart"],
  // Of crun: which of its handlers runs the container. Source: crun.1, handler-utils.c.
  "run.oci.handler": ["wasm", "wasm-smart", "wasmedge"],
};

/**
 * Refuses annotations that ask for what a wasm sandbox does not do.
 *
 * @param annotations Of a pod or a container; those that are not known here are left alone.
 * @param action What cannot be done then, such as `cannot create container "a"`.
 * @throws {SandboxError} `InvalidArgument` naming annotation, value and what is accepted.
 */
export function checkForeignAnnotations(
  annotations: Readonly<Record<string, string>>,
  action: string,
): void {
  for (const [name, accepted] of Object.entries(ACCEPTED)) {
    const value = annotations[name];
    if (value === undefined || accepted.includes(value)) continue;
    throw new SandboxError(
      "InvalidArgument",
      `${action}: annotation "${name}" is ${JSON.stringify(value)}: a wasm sandbox accepts ` +
        accepted.map((each) => `"${each}"`).join(", "),
    );
  }
}
