/**
 * Tells systemd how this process is doing (sd_notify(3)), where systemd asked for it and the
 * permissions let us: that it is ready or about to go, what it is doing, and now and then that it is
 * alive. Everywhere else it does nothing.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { Log } from "./log.ts";

/** The longest text of a status, in characters: a message is one datagram. */
const STATUS_LENGTH_MAX = 500;
/** The shortest time between two signs of life, in milliseconds, whatever systemd asks for. */
const WATCHDOG_MS_MIN = 100;
/** How much longer systemd is asked to wait each time, and how often it is asked, in milliseconds. */
const EXTENSION_MS = 30_000;
const EXTEND_EVERY_MS = 10_000;

/** Sends messages to systemd, one after the other. */
export class SystemdNotifier implements Disposable {
  readonly #target: string | undefined;
  readonly #own: string;
  readonly #log: Log;
  #socket: Deno.DatagramConn | undefined;
  #last: Promise<void> = Promise.resolve();
  #watchdog: ReturnType<typeof setInterval> | undefined;

  /**
   * Reads what systemd asked for; nothing is opened yet.
   *
   * @param directory A directory of this process, for the socket that messages are sent from.
   * @param log Told at `warn` when systemd waits for a message and it cannot be sent.
   */
  constructor(directory: string, log: Log) {
    this.#target = variable("NOTIFY_SOCKET");
    this.#own = `${directory}/notify.sock`;
    this.#log = log;
  }

  /** Whether somebody listens. */
  get isWanted(): boolean {
    return this.#target !== undefined;
  }

  /** Everything is up: calls are taken. */
  ready(status: string): Promise<void> {
    return this.#send(`READY=1\n${statusLine(status)}`);
  }

  /** The process is about to go. */
  stopping(status: string): Promise<void> {
    return this.#send(`STOPPING=1\n${statusLine(status)}`);
  }

  /** What `systemctl status` shows. */
  status(text: string): Promise<void> {
    return this.#send(statusLine(text));
  }

  /**
   * Asks systemd for more time, now and again until the answer is disposed of: for what is slow, and
   * bounded elsewhere.
   */
  takeTime(): Disposable {
    if (!this.isWanted) return { [Symbol.dispose]: () => undefined };
    const ask = () => void this.#send(`EXTEND_TIMEOUT_USEC=${EXTENSION_MS * 1000}`);
    ask();
    const timer = setInterval(ask, EXTEND_EVERY_MS);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /**
   * Gives a sign of life at half the interval that systemd asks for, from the event loop: when that
   * stands still, systemd ends the process and starts another one.
   */
  watch(): void {
    const intervalMs = watchdogMs();
    if (!this.isWanted || intervalMs === undefined || this.#watchdog !== undefined) return;
    const sign = () => void this.#send("WATCHDOG=1");
    sign();
    this.#watchdog = setInterval(sign, Math.max(intervalMs / 2, WATCHDOG_MS_MIN));
  }

  /** Sends nothing more. */
  [Symbol.dispose](): void {
    clearInterval(this.#watchdog);
    this.#socket?.close();
    this.#socket = undefined;
  }

  #send(message: string): Promise<void> {
    const target = this.#target;
    if (target === undefined) return Promise.resolve();
    this.#last = this.#last.then(() => this.#sendNow(target, message));
    return this.#last;
  }

  async #sendNow(target: string, message: string): Promise<void> {
    try {
      if (!target.startsWith("/")) throw new Error(`${JSON.stringify(target)} is no path`);
      this.#socket ??= await this.#open();
      const bytes = new TextEncoder().encode(message);
      await this.#socket.send(bytes, { transport: "unixpacket", path: target });
    } catch (error) {
      this.#log.warn("cannot notify systemd", { message, error: SandboxError.from(error) });
    }
  }

  /** Deno cannot send from an unbound socket, so ours has a name for a moment. */
  async #open(): Promise<Deno.DatagramConn> {
    await Deno.mkdir(this.#own.slice(0, this.#own.lastIndexOf("/")), {
      recursive: true,
      mode: 0o700,
    });
    await remove(this.#own);
    const socket = Deno.listenDatagram({ transport: "unixpacket", path: this.#own });
    await remove(this.#own).catch(() => undefined);
    return socket;
  }
}

/** A status is one line. */
function statusLine(text: string): string {
  return `STATUS=${text.replaceAll(/\s+/g, " ").slice(0, STATUS_LENGTH_MAX)}`;
}

/** The watchdog's interval in milliseconds; undefined where there is none, or it is another's. */
function watchdogMs(): number | undefined {
  const microseconds = Number(variable("WATCHDOG_USEC") ?? 0);
  const pid = variable("WATCHDOG_PID");
  if (!Number.isFinite(microseconds) || microseconds <= 0) return undefined;
  if (pid !== undefined && Number(pid) !== Deno.pid) return undefined;
  return microseconds / 1000;
}

/** A variable; undefined where there is none or the environment may not be read. */
function variable(name: string): string | undefined {
  try {
    const value = Deno.env.get(name);
    return value === "" ? undefined : value;
  } catch {
    return undefined;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
