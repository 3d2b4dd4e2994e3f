import assert from "node:assert/strict";
import { wantedModules } from "./kernel_config.ts";

/** Options of a kernel in whose image most is. */
const OPTIONS: Readonly<Record<string, string>> = Object.fromEntries([
  ..."PVH BLK_DEV_INITRD DEVTMPFS TMPFS UNIX INET CGROUPS MEMCG CGROUP_PIDS CGROUP_FREEZER NAMESPACES PID_NS IPC_NS SECCOMP_FILTER EPOLL SIGNALFD VIRTIO_PCI VIRTIO_CONSOLE FUSE_FS VIRTIO_FS EXT4_FS"
    .split(" ").map((name) => [name, "y"]),
  ..."VIRTIO_BLK VIRTIO_NET OVERLAY_FS EROFS_FS VIRTIO_BALLOON".split(" ")
    .map((name) => [name, "m"]),
]);

/** A configuration as the kernel writes it. */
function config(changes: Readonly<Record<string, string | undefined>> = {}): string {
  return Object.entries({ ...OPTIONS, ...changes }).map(([name, value]) =>
    value === undefined ? `# CONFIG_${name} is not set` : `CONFIG_${name}=${value}`
  ).join("\n");
}

Deno.test("what is not built in is loaded, what is needed first comes first", () => {
  assert.deepEqual(wantedModules(config(), "7.2").always, [
    "virtio_blk",
    "virtio_net",
    "overlay",
    "erofs",
    "virtio_balloon",
  ]);
});

Deno.test("a kernel that has nearly all in modules gets more of them loaded", () => {
  const modular = config({ VIRTIO_PCI: "m", VIRTIO_CONSOLE: "m", FUSE_FS: "m", VIRTIO_FS: "m" });
  const wanted = wantedModules(modular, "6.1").always;
  assert.deepEqual(wanted.slice(0, 2), ["virtio_pci", "virtio_console"]);
  assert.ok(wanted.includes("virtiofs"));
});

Deno.test("what only some guests need is apart", () => {
  const wanted = wantedModules(config({ VIRTIO_VSOCKETS: "m" }), "7.2");
  assert.deepEqual(wanted.vsock, ["vmw_vsock_virtio_transport"]);
  assert.ok(!wanted.always.includes("vmw_vsock_virtio_transport"));
});

Deno.test("what only makes guests better may be missing", () => {
  const wanted = wantedModules(config({ VIRTIO_BALLOON: undefined }), "7.2");
  assert.ok(!wanted.always.includes("virtio_balloon"));
});

Deno.test("a kernel without something that guests need is refused, with all that is missing", () => {
  const poor = config({ VIRTIO_CONSOLE: undefined, PVH: undefined, SECCOMP_FILTER: "m" });
  assert.throws(
    () => wantedModules(poor, "5.0-tiny"),
    /the kernel 5\.0-tiny: .*CONFIG_PVH=y, CONFIG_SECCOMP_FILTER=y, CONFIG_VIRTIO_CONSOLE=y or =m/,
  );
});
