/**
 * A shell on the guest's console, for looking into a guest. It is there only when the kernel command
 * line says `quasaur.console`, and where the image has a shell.
 *
 * @module
 */

import { errnoName } from "./errno.ts";
import { O_RDWR, SPAWN_SESSION, SPAWN_TERMINAL } from "./linux.ts";
import { log } from "./log.ts";
import { after } from "./loop.ts";
import { start } from "./processes.ts";
import * as sys from "./sys.js";

const CONSOLE = "/dev/console";
/** How long to wait before a shell that has ended is started again, in milliseconds. */
const RESTART_MS = 1000;
const SHELL = ["/bin/sh", "-i"];
const ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=linux"];

/**
 * Whether the console is switched on.
 *
 * @param commandLine The content of /proc/cmdline.
 */
export function wantsConsole(commandLine: string): boolean {
  return /(?:^|\s)quasaur\.console(?:\s|$)/.test(commandLine);
}

/** Starts the shell, and again whenever it ends. */
export function startConsole(): void {
  const fd = sys.open(CONSOLE, O_RDWR);
  if (fd < 0) {
    log("warn", `cannot open a console: ${errnoName(fd)}`);
    return;
  }
  try {
    const fds = [fd, fd, fd];
    start({ argv: SHELL, env: ENV, cwd: "/", fds, flags: SPAWN_SESSION | SPAWN_TERMINAL }, () => {
      after(RESTART_MS, startConsole);
    });
  } catch (thrown) {
    log("warn", `cannot start a console: ${String(thrown)}`);
  } finally {
    sys.close(fd);
  }
}
