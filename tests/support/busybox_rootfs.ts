/**
 * A root file system of one program, busybox, for tests that run Linux commands without containerd.
 *
 * @module
 */

/** Debian's static busybox. */
const BUSYBOX = "/bin/busybox";

/** The names that it is called by. */
const NAMES = ["sh", "cat", "echo", "env", "id", "pwd", "sleep", "stty", "hostname", "sha256sum"];

/** A directory with busybox in it. Disposing of it removes the directory. */
export class BusyboxRootfs implements AsyncDisposable {
  private constructor(
    /** The directory; that of the root file system is `rootfs` in it. */
    readonly directory: string,
  ) {}

  /** The root file system. */
  get path(): string {
    return `${this.directory}/rootfs`;
  }

  /** Makes one. */
  static async make(): Promise<BusyboxRootfs> {
    const made = new BusyboxRootfs(await Deno.makeTempDir({ prefix: "quasaur-busybox-" }));
    await Deno.mkdir(`${made.path}/bin`, { recursive: true });
    await Deno.copyFile(BUSYBOX, `${made.path}/bin/busybox`);
    await Promise.all(NAMES.map((name) => Deno.symlink("busybox", `${made.path}/bin/${name}`)));
    return made;
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}
