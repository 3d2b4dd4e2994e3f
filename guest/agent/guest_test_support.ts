/**
 * Drives the agent in a real guest: a machine that boots the installed kernel and initrd with the
 * agent of these sources in it, the host's client, and an observer inside that tells what a
 * container cannot see (mounts, cgroups and processes of the guest itself).
 *
 * @module
 */

import assert from "node:assert/strict";
import { limit, probeSpec, qemuIn } from "../../sandboxers/vmm/qemu/testing/fixture.ts";
import type { Machine } from "../../sandboxers/vmm/hypervisor.ts";
import { AgentClient } from "../client/agent_client.ts";
import { writeCpio } from "../image/cpio.ts";
import { DEFAULT_INITRD } from "../image/paths.ts";
import type {
  AgentEvent,
  CreateContainerArgs,
  GuestStdio,
  JsonObject,
  ProcessExit,
  SetupArgs,
  VolumeEntry,
} from "../protocol/messages.ts";
import { agentProgram } from "./agent_test_support.ts";

/** How long anything in the guest may take, in milliseconds. */
const WAIT_MS = 60_000;

/** Programs of the images, all busybox. */
const COMMANDS =
  "awk cat chmod date dd df echo env false grep head hostname id ip kill ln ls mkdir mknod mount ps pwd readlink rm seq sh sleep sort stat stty tail test touch tr true tty umount wc"
    .split(" ");

/** What containerd gives a container that asks for nothing. */
const CAPABILITIES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Prints the guest's state between marks whenever the host asks for it by a volume's file. */
const OBSERVER = `#!/usr/bin/busybox sh
n=1
while :; do
  if [ -e /run/volumes/observe/$n ]; then
    echo "STATE $n"
    sed 's/^/mount /' /proc/mounts
    find /sys/fs/cgroup/containers -type d | sed 's/^/cgroup /'
    for p in /proc/[0-9]*; do
      c=$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)
      case "$c" in ""|*busybox*|"sleep 0.1 "|"tr "*) ;; *) echo "process $c";; esac
    done
    sed 's/^/network /' /proc/net/if_inet6 /proc/net/route
    echo "fds $(ls /proc/1/fd | wc -l)"
    ls /run/crun /run/calls /run/rootfs /run/disks 2>/dev/null | grep -v -e : -e '^$' | sed 's/^/left /'
    echo "END $n"
    n=$((n+1))
  fi
  sleep 0.1
done
`;

/** A process under test: its exit and what it wrote. */
export interface Finished {
  /** How it ended. */
  readonly exit: ProcessExit;
  /** Its output. */
  readonly output: string;
  /** Its error output. */
  readonly errorOutput: string;
}

/** Streams of a process that is still to be started. */
interface Streams {
  readonly stdio: GuestStdio;
  readonly output: Promise<string>;
  readonly errorOutput: Promise<string>;
  write(text: string): void;
  end(): void;
}

/** Options of streams. */
interface StreamOptions {
  /** Whether there is an input. */
  readonly stdin?: boolean;
  /** The terminal's size, for one. */
  readonly terminal?: GuestStdio["terminal"];
}

/** A container under test. */
export interface TestContainer extends Streams {
  /** Its id. */
  readonly id: string;
  /** Its init process in the guest. */
  readonly pid: number;
}

/** A guest under test. */
export class TestGuest implements AsyncDisposable {
  readonly #events: AgentEvent[] = [];
  readonly #waiting = new Set<() => void>();
  #observed = 0;
  #names = 0;

  private constructor(
    readonly directory: string,
    readonly machine: Machine,
    readonly client: AgentClient,
  ) {}

  /** Boots one. */
  static async boot(): Promise<TestGuest> {
    const directory = await Deno.makeTempDir({ prefix: "quasaur-guest-" });
    await Deno.chmod(directory, 0o711);
    try {
      const initrd = `${directory}/initrd.cpio`;
      await writeInitrd(initrd);
      const place = `${directory}/machine`;
      await Deno.mkdir(place, { mode: 0o711 });
      const machine = await qemuIn(directory).boot(
        probeSpec(initrd, {
          network: "user",
          interfaces: 1,
          console: true,
          kernelParams: "quasaur.console",
        }),
        { id: "guest", directory: place, user: undefined, cgroup: "", sharedTreeSocket: undefined },
        limit(),
      );
      return await TestGuest.#connect(directory, machine);
    } catch (thrown) {
      await Deno.remove(directory, { recursive: true });
      throw thrown;
    }
  }

  static async #connect(directory: string, machine: Machine): Promise<TestGuest> {
    let guest: TestGuest | undefined;
    const early: AgentEvent[] = [];
    try {
      const client = await AgentClient.connect({
        path: machine.agentSocket,
        timeoutMs: WAIT_MS,
        onEvent: (event) => (guest === undefined ? early.push(event) : guest.#tell(event)),
      });
      guest = new TestGuest(directory, machine, client);
      for (const event of early) guest.#tell(event);
      return guest;
    } catch (thrown) {
      await machine.stop();
      throw thrown;
    }
  }

  #tell(event: AgentEvent): void {
    this.#events.push(event);
    for (const look of this.#waiting) look();
  }

  /** Waits for what an event brings; those that came before count too. */
  async event<T>(find: (event: AgentEvent) => T | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const look = () => {
      for (const event of this.#events) {
        const found = find(event);
        if (found !== undefined) return resolve(found);
      }
    };
    const timer = setTimeout(
      () => reject(new Error(`no such event; there are ${JSON.stringify(this.#events)}`)),
      WAIT_MS,
    );
    this.#waiting.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }

  /** How many events of a kind there were. */
  count(kind: AgentEvent["kind"]): number {
    return this.#events.filter((event) => event.kind === kind).length;
  }

  /** Attaches an image. */
  async attach(path: string, serial: string): Promise<string> {
    return (await this.machine.attachDisk({ path, serial, readonly: true }, limit())).serial;
  }

  /** Makes a container. */
  async create(
    args: Omit<CreateContainerArgs, "stdio" | "id" | "pidNamespace" | "mounts"> & {
      readonly mounts?: CreateContainerArgs["mounts"];
      readonly pidNamespace?: CreateContainerArgs["pidNamespace"];
    },
    options: StreamOptions = {},
  ): Promise<TestContainer> {
    const id = `c${++this.#names}`;
    const streams = this.#streams(options);
    const { pid } = await this.client.request("createContainer", {
      id,
      mounts: [],
      pidNamespace: "own",
      ...args,
      stdio: streams.stdio,
    });
    return { ...streams, id, pid };
  }

  /** Starts a container. */
  async start(container: TestContainer): Promise<void> {
    await this.client.request("startContainer", { container: container.id });
  }

  /** Waits for the end of a container's init. */
  async finished(container: TestContainer): Promise<Finished> {
    return await this.#finished({ container: container.id, exec: "" }, container);
  }

  /** Runs a process in a container to its end. */
  async run(
    container: TestContainer,
    args: readonly string[],
    process: JsonObject = {},
    { input, ...options }: StreamOptions & { readonly input?: string } = {},
  ): Promise<Finished> {
    const name = { container: container.id, exec: `p${++this.#names}` };
    const streams = this.#streams({ stdin: input !== undefined, ...options });
    await this.client.request("exec", {
      ...name,
      process: { ...processOf(args), ...process },
      stdio: streams.stdio,
    });
    if (input !== undefined) {
      streams.write(input);
      streams.end();
    }
    return await this.#finished(name, streams);
  }

  /** Deletes a container. */
  async delete(container: TestContainer): Promise<void> {
    await this.client.request("deleteContainer", { container: container.id });
  }

  async #finished(
    name: { readonly container: string; readonly exec: string },
    streams: Streams,
  ): Promise<Finished> {
    const exit = await this.event((event) => {
      if (event.kind !== "exit") return undefined;
      const { container, exec } = event.exit;
      return container === name.container && exec === name.exec ? event.exit : undefined;
    });
    const [output, errorOutput] = await Promise.all([streams.output, streams.errorOutput]);
    await this.client.request("acknowledgeExit", name);
    return { exit, output, errorOutput };
  }

  #streams({ stdin = false, terminal }: StreamOptions): Streams {
    const { client } = this;
    const [inputId, outputId, errorId] = [0, 0, 0].map(() => client.nextStreamId());
    assert.ok(inputId !== undefined && outputId !== undefined && errorId !== undefined);
    const input = stdin ? client.openInput(inputId) : undefined;
    const stdio: GuestStdio = {
      ...(stdin ? { stdin: inputId } : {}),
      stdout: outputId,
      ...(terminal === undefined ? { stderr: errorId } : { terminal }),
    };
    return {
      stdio,
      output: this.#collect(outputId),
      errorOutput: terminal === undefined ? this.#collect(errorId) : Promise.resolve(""),
      write: (text) => {
        const bytes = new TextEncoder().encode(text);
        const room = input?.reserve();
        assert.ok(room !== undefined && room.length >= bytes.length);
        room.set(bytes);
        input?.commit(bytes.length);
      },
      end: () => input?.end(),
    };
  }

  #collect(id: number): Promise<string> {
    const stream = this.client.openOutput(id);
    const { promise, resolve } = Promise.withResolvers<string>();
    const decoder = new TextDecoder();
    let text = "";
    stream.onReadable = () => {
      for (let bytes = stream.peek(); bytes !== undefined; bytes = stream.peek()) {
        text += decoder.decode(bytes, { stream: true });
        stream.consume(bytes.length);
      }
      if (stream.ended || stream.resetBy !== undefined) resolve(text);
    };
    return promise;
  }

  /** What the guest has: its mounts, cgroups, processes, the agent's descriptors, left files. */
  async state(): Promise<string[]> {
    const number = ++this.#observed;
    await this.client.request("volumeSync", {
      volume: "observe",
      entries: [fileEntry(String(number), "look")],
    });
    const pattern = new RegExp(`STATE ${number}\r?\n([^]*)END ${number}\r?\n`);
    for (const end = Date.now() + WAIT_MS; Date.now() < end;) {
      const console = await Deno.readTextFile(`${this.directory}/machine/console.log`);
      const lines = console.match(pattern)?.[1];
      if (lines !== undefined) return lines.split(/\r?\n/).filter((line) => line !== "").sort();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the observer does not answer");
  }

  /** Ends the guest and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.client[Symbol.dispose]();
    await this.machine.stop();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** One file of a volume, whole. */
export function fileEntry(path: string, content: string): VolumeEntry {
  const data = btoa(content);
  return { kind: "file", path, mode: 0o644, uid: 0, gid: 0, data, offset: 0, last: true };
}

/** What turns the guest into a pod, with the address that QEMU's user network expects. */
export function setupArgs(changes: Partial<SetupArgs> = {}): SetupArgs {
  return {
    timeMs: Date.now(),
    seed: btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(64)))),
    hostname: "pod1",
    machineId: "0123456789abcdef0123456789abcdef",
    interfaces: [{
      name: "eth0",
      device: 0,
      mac: "02:00:00:00:00:07",
      mtu: 1400,
      addresses: ["10.0.2.15/24", "fd00::15/64"],
    }],
    routes: [{ destination: "default", family: "inet", gateway: "10.0.2.2", interface: "eth0" }],
    neighbours: [{ address: "10.0.2.9", mac: "02:00:00:00:00:09", interface: "eth0" }],
    files: {
      hosts: "127.0.0.1 localhost\n10.0.2.15 pod1\n",
      hostname: "pod1\n",
      resolvConf: "nameserver 10.0.2.3\n",
    },
    shmBytes: 8 << 20,
    sysctls: { "net.ipv4.ip_unprivileged_port_start": "0" },
    ...changes,
  };
}

/** A process as containerd describes one. */
export function processOf(args: readonly string[]): JsonObject {
  return {
    args,
    env: ["PATH=/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0 },
    noNewPrivileges: true,
    capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
  };
}

/** A container's configuration as containerd makes one. */
export function configOf(
  args: readonly string[],
  changes: {
    readonly process?: JsonObject;
    readonly readonly?: boolean;
    readonly linux?: JsonObject;
  } = {},
): JsonObject {
  return {
    ociVersion: "1.2.0",
    process: { ...processOf(args), ...changes.process },
    root: { path: "rootfs", readonly: changes.readonly ?? false },
    hostname: "of-the-host",
    mounts: [
      mount("/proc", "proc", ["nosuid", "noexec", "nodev"]),
      mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
      mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"]),
      mount("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
      mount("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
      mount("/sys/fs/cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ],
    linux: {
      namespaces: [{ type: "network", path: "/proc/1/ns/net" }],
      cgroupsPath: "/of/the/host",
      resources: {
        devices: [{ allow: false, access: "rwm" }],
        memory: { limit: 32 << 20, swap: 32 << 20 },
        cpu: { shares: 1024, cpus: "7" },
        pids: { limit: 64 },
      },
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      ...changes.linux,
    },
  };
}

function mount(destination: string, type: string, options: readonly string[]): JsonObject {
  return { destination, type, source: type, options };
}

/**
 * Makes an image with busybox and an absolute link.
 *
 * @param path Where to.
 * @param name What `/etc/image` says.
 */
export async function makeImage(path: string, name: string): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "quasaur-root-" });
  try {
    await Deno.chmod(root, 0o755);
    for (const directory of ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"]) {
      await Deno.mkdir(`${root}/${directory}`);
    }
    await Deno.copyFile(await busybox(), `${root}/bin/busybox`);
    for (const command of COMMANDS) await Deno.symlink("busybox", `${root}/bin/${command}`);
    await Deno.symlink("/run", `${root}/var/run`);
    await Deno.writeTextFile(`${root}/etc/image`, `${name}\n`);
    await Deno.writeTextFile(`${root}/bin/plain`, "not a program\n");
    const { success, stderr } = await new Deno.Command("mkfs.erofs", { args: [path, root] })
      .output();
    assert.ok(success, new TextDecoder().decode(stderr));
    await Deno.chmod(path, 0o644);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** The static busybox of this machine. */
async function busybox(): Promise<string> {
  for (const path of ["/bin/busybox", "/usr/bin/busybox"]) {
    const found = await Deno.stat(path).then(() => true, () => false);
    if (found) return path;
  }
  throw new Error("busybox not found: install the Debian package busybox-static");
}

/** The installed initrd with files on top: the kernel unpacks one archive after the other. */
async function writeInitrd(path: string): Promise<void> {
  const program = async (path: string, file: string) =>
    ({ kind: "file", path, mode: 0o755, bytes: await Deno.readFile(file) }) as const;
  const onTop = writeCpio([
    await program("init", await agentProgram()),
    { kind: "directory", path: "usr", mode: 0o755 },
    { kind: "directory", path: "usr/bin", mode: 0o755 },
    await program("usr/bin/busybox", await busybox()),
    ...["cat", "find", "grep", "ls", "sed", "sleep", "tr", "wc"].map((name) => ({
      kind: "link" as const,
      path: `usr/bin/${name}`,
      target: "busybox",
    })),
    {
      kind: "file",
      path: "usr/bin/sh",
      mode: 0o755,
      bytes: new TextEncoder().encode(OBSERVER),
    },
  ]);
  const installed = await Deno.readFile(DEFAULT_INITRD);
  const whole = new Uint8Array(installed.length + onTop.length);
  whole.set(installed);
  whole.set(onTop, installed.length);
  await Deno.writeFile(path, whole, { mode: 0o644 });
}
