/**
 * Which containerd has images.
 *
 * @module
 */

/** Where containerd is. */
export interface ContainerdPlace {
  /** Its socket, an absolute path. */
  readonly address: string;
  /** The namespaces in which the image is looked for, such as `k8s.io`: the first that has it. */
  readonly namespaces: readonly string[];
}

/** Where containerd usually is, and where its images are: those of Kubernetes, and those of `ctr`. */
export const CONTAINERD_PLACE: ContainerdPlace = {
  address: "/run/containerd/containerd.sock",
  namespaces: ["k8s.io", "default"],
};
