import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { placeOf, type VolumePlace } from "./volume_place.ts";

const POD = "/var/lib/kubelet/pods/7d0a";
const CRI = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/5ec4";

const CASES: readonly (readonly [string, string, boolean, VolumePlace])[] = [
  [`${POD}/volumes/kubernetes.io~empty-dir/cache`, "/cache", false, "emptyDirectory"],
  [`${POD}/volumes/kubernetes.io~empty-dir/cache/`, "/cache", true, "emptyDirectory"],
  [`${POD}/volumes/kubernetes.io~configmap/config`, "/config", true, "source"],
  [`${POD}/volume-subpaths/cache/main/0`, "/cache", false, "source"],
  [`${POD}/containers/main/5f3a`, "/dev/termination-log", false, "result"],
  [`${POD}/containers/main/5f3a`, "/var/log/end", false, "result"],
  ["/tmp/end", "/dev/termination-log", false, "result"],
  [`${POD}/etc-hosts`, "/etc/hosts", false, "podFile"],
  [`${POD}/etc-hosts`, "/etc/hosts", true, "source"],
  [`${CRI}/resolv.conf`, "/etc/resolv.conf", false, "podFile"],
  [`${CRI}/shm`, "/dev/shm", false, "shm"],
  ["/dev/shm", "/dev/shm", false, "shm"],
  ["/dev/shm/mine", "/data", false, "source"],
  ["/devices", "/data", false, "source"],
  ["/", "/host", true, "source"],
];

for (const [source, destination, readonly, place] of CASES) {
  Deno.test(`"${source}" at "${destination}"${readonly ? " (read-only)" : ""} is a ${place}`, () => {
    assert.equal(placeOf({ source, destination, readonly }), place);
  });
}

for (const source of ["/dev", "/dev/kvm", "/proc/", "/sys/fs/cgroup"]) {
  Deno.test(`"${source}" of the host is refused`, () => {
    assert.throws(
      () => placeOf({ source, destination: "/x", readonly: true }),
      (error) => error instanceof SandboxError && error.code === "FailedPrecondition",
    );
  });
}
