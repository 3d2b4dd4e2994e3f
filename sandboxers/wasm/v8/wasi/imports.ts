/**
 * All functions of WASI preview 1 for one guest, as its module imports them: each answers with an
 * error number, and each is a place where a guest that is to end does so.
 *
 * @module
 */

import { type SharedState, Stopped } from "../shared_state.ts";
import { WASI_ERRNO, WasiError } from "./abi.ts";
import type { WasiContext, WasiFunctions } from "./context.ts";
import { descriptorFunctions } from "./descriptor_functions.ts";
import { pathFunctions } from "./path_functions.ts";
import { pollFunctions } from "./poll.ts";
import { GuestExit, processFunctions } from "./process_functions.ts";

/**
 * Makes the imports of a guest.
 *
 * @param context What they work with.
 * @param state Says when the guest is to end, and hears how large its memory is.
 */
export function wasiImports(context: WasiContext, state: SharedState): WebAssembly.ModuleImports {
  const guard = new Guard(context, state);
  const functions: WasiFunctions = {
    ...processFunctions(context),
    ...descriptorFunctions(context),
    ...pathFunctions(context),
    ...pollFunctions(context),
  };
  return Object.fromEntries(
    Object.entries(functions).map(([name, call]) => [name, guard.wrap(call)]),
  );
}

class Guard {
  readonly #context: WasiContext;
  readonly #state: SharedState;
  /** How the guest has ended, where it caught what was thrown through it and goes on. */
  #over: Error | undefined;

  constructor(context: WasiContext, state: SharedState) {
    this.#context = context;
    this.#state = state;
  }

  wrap<A extends never[]>(call: (...args: A) => void): (...args: A) => number {
    return (...args) => {
      if (this.#over !== undefined) throw this.#over;
      try {
        return this.#answer(call, args);
      } catch (error) {
        if (error instanceof Stopped || error instanceof GuestExit) this.#over = error;
        throw error;
      }
    };
  }

  #answer<A extends never[]>(call: (...args: A) => void, args: A): number {
    if (this.#state.stopped) throw new Stopped();
    try {
      call(...args);
    } catch (error) {
      if (!(error instanceof WasiError)) throw error;
      return error.errno;
    } finally {
      this.#state.linearBytes = this.#context.memory.sizeBytes;
    }
    return WASI_ERRNO.SUCCESS;
  }
}

/** Names of the functions that guests may import. */
export const WASI_FUNCTIONS: ReadonlySet<string> = new Set([
  "args_get",
  "args_sizes_get",
  "clock_res_get",
  "clock_time_get",
  "environ_get",
  "environ_sizes_get",
  "fd_advise",
  "fd_allocate",
  "fd_close",
  "fd_datasync",
  "fd_fdstat_get",
  "fd_fdstat_set_flags",
  "fd_fdstat_set_rights",
  "fd_filestat_get",
  "fd_filestat_set_size",
  "fd_filestat_set_times",
  "fd_pread",
  "fd_prestat_dir_name",
  "fd_prestat_get",
  "fd_pwrite",
  "fd_read",
  "fd_readdir",
  "fd_renumber",
  "fd_seek",
  "fd_sync",
  "fd_tell",
  "fd_write",
  "path_create_directory",
  "path_filestat_get",
  "path_filestat_set_times",
  "path_link",
  "path_open",
  "path_readlink",
  "path_remove_directory",
  "path_rename",
  "path_symlink",
  "path_unlink_file",
  "poll_oneoff",
  "proc_exit",
  "proc_raise",
  "random_get",
  "sched_yield",
  "sock_accept",
  "sock_recv",
  "sock_send",
  "sock_shutdown",
]);
