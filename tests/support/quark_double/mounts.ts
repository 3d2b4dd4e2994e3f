/**
 * What is mounted, as the double's own mount namespace sees it.
 *
 * @module
 */

/** Where something is mounted now, in this process's mount namespace. */
export async function mountPoints(): Promise<ReadonlySet<string>> {
  const text = await Deno.readTextFile("/proc/self/mountinfo");
  return new Set(text.split("\n").map((line) => line.split(" ")[4] ?? ""));
}

/**
 * Gives a container a /proc, which programs of busybox need; Quark's kernel has one of its own. Seen
 * in this process's mount namespace only.
 *
 * @param bundle The container's bundle.
 */
export async function mountProc(bundle: string): Promise<void> {
  const args = ["-t", "proc", "proc", `${bundle}/rootfs/proc`];
  const { success } = await new Deno.Command("mount", { args }).output();
  if (!success) throw new Error(`cannot mount ${bundle}/rootfs/proc`);
}

/** Takes it away, where it is. */
export async function unmountProc(bundle: string): Promise<void> {
  await new Deno.Command("umount", { args: ["-l", `${bundle}/rootfs/proc`], stderr: "null" })
    .output();
}
