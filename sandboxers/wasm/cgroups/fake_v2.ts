/**
 * A cgroup version 2 hierarchy in memory for tests, with the kernel's rules for types, controllers
 * and threads as far as they are used here: hosts that run tests seldom have one with controllers.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst.
 *
 * @module
 */

import { ERRNO } from "../native/errno.ts";
import type { ThreadStep } from "../native/thread_spec.ts";
import type { CgroupFiles } from "./files.ts";
import type { Hierarchy } from "./hierarchies.ts";

const EEXIST = 17;
const EOPNOTSUPP = 95;
const FIRST_FD = 1_000;

/** Files that a controller brings, with what is in them at first. */
const CONTROLLER_FILES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  cpu: { "cpu.max": "max 100000", "cpu.weight": "100" },
  cpuset: { "cpuset.cpus": "", "cpuset.cpus.effective": "0-3" },
  pids: { "pids.max": "max" },
};

/** A cgroup of the fake. */
interface Directory {
  type: "domain" | "domain threaded" | "domain invalid" | "threaded";
  readonly values: Map<string, string>;
  readonly control: Set<string>;
  readonly threads: Set<number>;
  frozen: boolean;
}

/** The hierarchy. */
export class FakeV2 implements CgroupFiles {
  /** Where it is mounted. */
  readonly root = "/cg";
  /** How the sandboxer sees it: it is in `/service`. */
  readonly hierarchy: Hierarchy = {
    version: 2,
    root: this.root,
    own: "/service",
    controllers: new Set(["cpu", "cpuset", "freezer", "pids"]),
  };
  /** Makes every making of a directory fail with this error number, where it is not 0. */
  mkdirErrno = 0;
  /** Keeps threads from freezing, as a broken disk does. */
  neverFreezes = false;
  /** A file that takes no value. */
  refused = "";
  readonly #directories = new Map<string, Directory>();
  readonly #open = new Map<number, string>();

  /** With the root and the cgroup of a sandboxer process of one thread. */
  constructor() {
    const controllers = Object.keys(CONTROLLER_FILES);
    this.#directories.set("", directory("domain", controllers, controllers));
    this.#directories.set("/service", directory("domain", controllers));
    this.#directories.get("/service")?.threads.add(1);
  }

  /** Makes a cgroup as another program would, with limits in its files. */
  given(path: string, values: Readonly<Record<string, string>>): void {
    const made = directory("domain", Object.keys(CONTROLLER_FILES));
    for (const [file, value] of Object.entries(values)) made.values.set(file, value);
    this.#directories.set(path, made);
  }

  /** The paths of all cgroups but the root and those of {@link FakeV2.given}. */
  paths(): string[] {
    return [...this.#directories.keys()].filter((path) => path.startsWith("/service/"));
  }

  /** The cgroup that a thread is in. */
  whereIs(tid: number): string | undefined {
    return [...this.#directories].find(([, { threads }]) => threads.has(tid))?.[0];
  }

  /** Does what a thread with these steps does. */
  run(steps: readonly ThreadStep[], tid: number): void {
    for (const { args: [fd] } of steps) {
      const path = this.#open.get(Number(fd)) ?? "";
      const errno = this.write(path, `${tid}`);
      if (errno !== 0) throw new Error(`${path}: errno ${errno}`);
    }
  }

  /** Ends a thread. */
  end(tid: number): void {
    for (const { threads } of this.#directories.values()) threads.delete(tid);
  }

  /** Descriptors that are open. */
  get openFiles(): number {
    return this.#open.size;
  }

  read(path: string): string | undefined {
    const [found, file] = this.#find(path);
    if (found === undefined) return undefined;
    if (file === "cgroup.type") return found.type;
    if (file === "cgroup.subtree_control") return [...found.control].join(" ");
    if (file === "cgroup.threads") return [...found.threads].join("\n");
    if (file === "cgroup.events") {
      return `populated 1\nfrozen ${found.frozen && !this.neverFreezes ? 1 : 0}\n`;
    }
    return found.values.get(file);
  }

  write(path: string, text: string): number {
    const [found, file] = this.#find(path);
    if (found === undefined) return ERRNO.ENOENT;
    const value = text.trim();
    switch (file) {
      case "cgroup.type":
        return this.#makeThreaded(path, found);
      case "cgroup.subtree_control":
        return this.#control(path, found, value);
      case "cgroup.threads":
        return this.#enter(found, Number(value));
      case "cgroup.freeze":
        found.frozen = value === "1";
        return 0;
    }
    if (!found.values.has(file)) return ERRNO.ENOENT;
    if (file === this.refused) return ERRNO.EINVAL;
    found.values.set(file, value);
    return 0;
  }

  writeLater(path: string, text: string): Promise<number> {
    return Promise.resolve(this.write(path, text));
  }

  makeDirectory(path: string): number {
    if (this.mkdirErrno !== 0) return this.mkdirErrno;
    const name = path.slice(this.root.length);
    const parent = this.#directories.get(parentOf(name));
    if (parent === undefined) return ERRNO.ENOENT;
    if (this.#directories.has(name)) return EEXIST;
    const threaded = parent.type === "threaded" || parent.type === "domain threaded";
    const type = threaded ? "domain invalid" : "domain";
    this.#directories.set(name, directory(type, [...parent.control]));
    return 0;
  }

  removeDirectory(path: string): number {
    const name = path.slice(this.root.length);
    const found = this.#directories.get(name);
    if (found === undefined) return ERRNO.ENOENT;
    const children = [...this.#directories.keys()].some((other) => parentOf(other) === name);
    if (found.threads.size > 0 || children) return ERRNO.EBUSY;
    this.#directories.delete(name);
    return 0;
  }

  directories(path: string): readonly string[] {
    const name = path.slice(this.root.length);
    return [...this.#directories.keys()]
      .filter((other) => other !== "" && parentOf(other) === name)
      .map((other) => other.slice(name.length + 1));
  }

  open(path: string): number {
    if (this.#find(path)[0] === undefined) return -ERRNO.ENOENT;
    let fd = FIRST_FD;
    while (this.#open.has(fd)) fd++;
    this.#open.set(fd, path);
    return fd;
  }

  close(fd: number): void {
    if (!this.#open.delete(fd)) throw new Error(`descriptor ${fd} is not open`);
  }

  #find(path: string): [Directory | undefined, string] {
    const at = path.lastIndexOf("/");
    const name = path.slice(this.root.length, at);
    const found = path.startsWith(`${this.root}/`) ? this.#directories.get(name) : undefined;
    return [found, path.slice(at + 1)];
  }

  #makeThreaded(path: string, found: Directory): number {
    const parent = this.#directories.get(
      parentOf(path.slice(this.root.length, path.lastIndexOf("/"))),
    );
    if (parent === undefined || parent.type === "domain invalid") return EOPNOTSUPP;
    if (parent.type === "domain") parent.type = "domain threaded";
    found.type = "threaded";
    return 0;
  }

  #control(path: string, found: Directory, value: string): number {
    // Threads may be in an inner cgroup only where they are threads of a threaded tree.
    if (found.threads.size > 0 && found.type === "domain") return ERRNO.EBUSY;
    const name = path.slice(this.root.length, path.lastIndexOf("/"));
    for (const controller of value.split(" ").map((word) => word.slice(1))) {
      const has = Object.keys(CONTROLLER_FILES[controller] ?? {}).every((f) => found.values.has(f));
      if (!has) return ERRNO.ENOENT;
      found.control.add(controller);
      for (const [other, child] of this.#directories) {
        if (parentOf(other) === name && other !== "") addController(child, controller);
      }
    }
    return 0;
  }

  #enter(found: Directory, tid: number): number {
    if (found.type === "domain invalid") return EOPNOTSUPP;
    if (found.type === "domain") return EOPNOTSUPP; // another domain than that of its process
    this.end(tid);
    found.threads.add(tid);
    return 0;
  }
}

function directory(
  type: Directory["type"],
  controllers: readonly string[],
  control: readonly string[] = [],
): Directory {
  const values = new Map([["cgroup.controllers", controllers.join(" ")]]);
  const made = {
    type,
    values,
    control: new Set(control),
    threads: new Set<number>(),
    frozen: false,
  };
  for (const controller of controllers) addController(made, controller);
  return made;
}

function addController({ values }: Directory, controller: string): void {
  for (const [file, value] of Object.entries(CONTROLLER_FILES[controller] ?? {})) {
    if (!values.has(file)) values.set(file, value);
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}
