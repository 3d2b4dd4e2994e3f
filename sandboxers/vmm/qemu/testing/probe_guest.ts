/**
 * The guest of probe_guest.c: builds an initrd with it, and talks to it.
 *
 * @module
 */

import { readCpio, writeCpio } from "../../../../guest/image/cpio.ts";
import { DEFAULT_INITRD } from "../../../../guest/image/paths.ts";

/** Modules of the guest's image that the probe needs. */
const MODULES = /^modules\/.*(virtio_blk|virtio_balloon|pvpanic)[^/]*$/;
/** Longest answer, in characters. */
const ANSWER_MAX = 64 << 10;

/**
 * Builds the initrd.
 *
 * @param directory Where it goes.
 * @returns Its path.
 */
export async function buildProbeInitrd(directory: string): Promise<string> {
  const source = new URL("./probe_guest.c", import.meta.url).pathname;
  const program = `${directory}/probe`;
  const { success, stderr } = await new Deno.Command("gcc", {
    args: ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const image = readCpio(await Deno.readFile(DEFAULT_INITRD));
  const initrd = `${directory}/probe.cpio`;
  const archive = writeCpio([
    ...["dev", "modules", "proc", "sys"].map((path) => ({
      kind: "directory" as const,
      path,
      mode: 0o755,
    })),
    ...image.filter((entry) => entry.kind === "file" && MODULES.test(entry.path)),
    { kind: "file", path: "init", mode: 0o755, bytes: await Deno.readFile(program) },
  ]);
  await Deno.writeFile(initrd, archive);
  return initrd;
}

/** A connection to the probe in a guest. */
export class Probe implements Disposable {
  readonly #connection: Deno.UnixConn;
  readonly #decoder = new TextDecoder();
  #text = "";

  private constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  /** Connects to the agent's socket of a machine. */
  static async connect(path: string): Promise<Probe> {
    return new Probe(await Deno.connect({ transport: "unix", path }));
  }

  /** Sends a line; for commands without an answer. */
  async tell(line: string): Promise<void> {
    let bytes = new TextEncoder().encode(line + "\n");
    while (bytes.length > 0) bytes = bytes.subarray(await this.#connection.write(bytes));
  }

  /** Sends a line. @returns The answer. */
  async ask(line: string): Promise<string> {
    await this.tell(line);
    return await this.hear();
  }

  /** The next line of the guest. */
  async hear(): Promise<string> {
    const buffer = new Uint8Array(4096);
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      if (this.#text.length > ANSWER_MAX) throw new Error("the guest's answer has no end");
      const read = await this.#connection.read(buffer);
      if (read === null) throw new Error("the guest has gone");
      this.#text += this.#decoder.decode(buffer.subarray(0, read), { stream: true });
    }
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.#connection.close();
  }
}
