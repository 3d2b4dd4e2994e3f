/**
 * What pod processes want of the cache of compiled code. They do not see it: a file that was verified
 * here is handed over as a descriptor, and of a module that they want compiled they say only the
 * digest. Its bytes are read from the image here, so nothing is compiled but programs of containers.
 *
 * @module
 */

import { type ContainerSpec, type ProcessSpec, rootfsPath } from "../../lifecycle/spec.ts";
import type { CompiledModules } from "../compiled_modules.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";
import { loadProgram, openRootfs } from "../rootfs.ts";
import { sha256 } from "../digest.ts";

/** Most wishes that wait while one is looked into. */
const WAITING_MAX = 64;

/** The wishes of one pod process. */
export class CompileWishes {
  readonly #system: System;
  readonly #compiled: CompiledModules | undefined;
  readonly #programs = new Map<ContainerSpec, Set<ProcessSpec>>();
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  /**
   * Knows no programs yet.
   *
   * @param system Reads them.
   * @param compiled The cache; undefined where there is none.
   */
  constructor(system: System, compiled: CompiledModules | undefined) {
    this.#system = system;
    this.#compiled = compiled;
  }

  /** A container is there: its program may be compiled. */
  add(spec: ContainerSpec): void {
    this.#programs.set(spec, new Set([spec.process]));
  }

  /** It is gone. */
  remove(spec: ContainerSpec): void {
    this.#programs.delete(spec);
  }

  /**
   * An exec is there.
   *
   * @returns Call it when it is gone.
   */
  addExec(spec: ContainerSpec, process: ProcessSpec): () => void {
    this.#programs.get(spec)?.add(process);
    return () => void this.#programs.get(spec)?.delete(process);
  }

  /**
   * Opens the compiled code of a module.
   *
   * @param digest SHA-256 of the module's bytes, in hexadecimal.
   * @returns A descriptor, the caller's to close; undefined where there is none.
   */
  async find(digest: string): Promise<number | undefined> {
    const path = await this.#compiled?.find(digest);
    if (path === undefined) return undefined;
    const fd = this.#system.openAt(AT_FDCWD, path, OPEN.readOnly, 0);
    return fd < 0 ? undefined : fd;
  }

  /** Has a module compiled, where it is the program of a container; else nothing happens. */
  async compile(digest: string): Promise<void> {
    if (this.#compiled === undefined || this.#waiting >= WAITING_MAX) return;
    this.#waiting++;
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    try {
      await this.#request(digest);
    } finally {
      this.#waiting--;
      resolve();
    }
  }

  /** Compiled code did not load: the cache makes it anew. */
  reject(digest: string): void {
    this.#compiled?.reject(digest);
  }

  async #request(digest: string): Promise<void> {
    for (const [spec, processes] of [...this.#programs]) {
      for (const process of [...processes]) {
        if (await this.#requestProgram(digest, spec, process)) return;
      }
    }
  }

  async #requestProgram(
    digest: string,
    spec: ContainerSpec,
    process: ProcessSpec,
  ): Promise<boolean> {
    using opened = new DisposableStack();
    try {
      const path = rootfsPath(spec.rootfs);
      const rootfs = openRootfs(this.#system, path);
      opened.adopt(rootfs, (fd) => this.#system.close(fd));
      return await loadProgram(this.#system, rootfs, process, async (bytes) => {
        if (await sha256(bytes) !== digest) return false;
        this.#compiled?.request(digest, bytes);
        return true;
      });
    } catch {
      // It was there when the container was made; where it has gone since, it is not compiled.
      return false;
    }
  }
}
