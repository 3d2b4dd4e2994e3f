/**
 * A node and a pod in network namespaces of their own, and a program with a tap that stands in for a
 * guest (as root).
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { spawnConfined } from "../../../host/confined.ts";
import type { ResidentProcess } from "../../../host/resident.ts";
import { launcher, run, until } from "../../../host/testing/fixture.ts";

const SOURCE = fileURLToPath(new URL("./tap_guest.c", import.meta.url));

/** Namespaces and a built guest. */
export class World implements AsyncDisposable {
  readonly #machines: ResidentProcess[] = [];

  private constructor(readonly name: string, readonly directory: string) {}

  /** Makes the namespaces `node` and `pod`, without anything in between. */
  static async create(): Promise<World> {
    const name = `quasaur-${crypto.randomUUID().slice(0, 8)}`;
    const world = new World(name, `/run/${name}`);
    try {
      await Deno.mkdir(world.directory, { mode: 0o755 });
      await run("cc", "-O1", "-Wall", "-o", world.program, SOURCE);
      await run("ip", "netns", "add", `${name}-node`);
      await run("ip", "netns", "add", `${name}-pod`);
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The program that stands in for a guest. */
  get program(): string {
    return `${this.directory}/tap_guest`;
  }

  /** The pod's namespace. */
  get netns(): string {
    return `/run/netns/${this.name}-pod`;
  }

  /** Runs ip in the pod's namespace. */
  pod(...args: string[]): Promise<string> {
    return run("ip", "-n", `${this.name}-pod`, ...args);
  }

  /** Runs ip in the node's namespace. */
  node(...args: string[]): Promise<string> {
    return run("ip", "-n", `${this.name}-node`, ...args);
  }

  /** Runs a program in a namespace. */
  within(place: "node" | "pod", ...args: string[]): Promise<string> {
    return run("ip", "netns", "exec", `${this.name}-${place}`, ...args);
  }

  /** A veth pair: `eth0` of the pod, `v0` of the node; as the bridge plugin leaves it. */
  async connect(podAddress: string, nodeAddress: string): Promise<void> {
    const [node, pod] = [`${this.name}-node`, `${this.name}-pod`];
    await run(
      "ip",
      "link",
      "add",
      "v0",
      "netns",
      node,
      "type",
      "veth",
      "peer",
      "eth0",
      "netns",
      pod,
    );
    await this.node("addr", "add", nodeAddress, "dev", "v0");
    await this.node("link", "set", "v0", "up");
    await this.pod("addr", "add", podAddress, "dev", "eth0");
    await this.pod("link", "set", "eth0", "up");
    await until("the link", async () => /state UP/.test(await this.pod("link", "show", "eth0")));
  }

  /** Starts a guest with taps; it answers at the first. */
  machine(mac: string, address: string, taps = 1): Promise<ResidentProcess> {
    return this.start(this.program, ["guest", mac, address], taps);
  }

  /** Starts a program as a VMM is started. */
  async start(program: string, args: readonly string[], taps: number): Promise<ResidentProcess> {
    const machine = await spawnConfined(launcher, {
      program,
      args,
      directory: this.directory,
      log: `${this.directory}/log`,
      user: { uid: 1_879_048_100, gid: 1_879_048_100 },
      network: { taps },
      cgroup: "",
    });
    this.#machines.push(machine);
    return machine;
  }

  /** Takes all of it away. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of this.#machines) {
      machine.kill("SIGKILL");
      await machine.status;
    }
    for (const place of ["node", "pod"]) {
      await run("ip", "netns", "del", `${this.name}-${place}`).catch(() => undefined);
    }
    await Deno.remove(this.directory, { recursive: true });
  }
}
