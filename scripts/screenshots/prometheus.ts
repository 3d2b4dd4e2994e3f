/**
 * A Prometheus of its own: Debian's package, unpacked into a directory that goes away, which scrapes
 * sandboxers once a second and is asked in PromQL.
 *
 * @module
 */

import { run } from "../../tests/support/command.ts";
import { ManagedProcess } from "../../tests/support/managed_process.ts";
import { waitFor } from "../../tests/support/wait.ts";

/** One line of a diagram. */
export interface Series {
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Its points: seconds since the epoch, and values. */
  readonly points: readonly (readonly [at: number, value: number])[];
}

/** What Prometheus answers. */
interface RangeAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>;
      readonly values: readonly (readonly [number, string])[];
    }[];
  };
}

/** A running Prometheus. Disposing of it ends it and removes its directory. */
export class Prometheus implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #port: number;

  private constructor(port: number, stack: AsyncDisposableStack) {
    this.#port = port;
    this.#stack = stack;
  }

  /**
   * Fetches and starts it.
   *
   * @param targets The metrics sockets of sandboxers by the name of their instance.
   */
  static async start(targets: ReadonlyMap<string, string>): Promise<Prometheus> {
    await using stack = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir({ prefix: "quasaur-prometheus-" });
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    // Packages are fetched by a user without rights.
    await Deno.chmod(directory, 0o777);
    await run(["apt-get", "download", "prometheus"], { cwd: directory, timeoutMs: 120_000 });
    await run(["/bin/sh", "-c", "dpkg -x prometheus_*.deb ."], { cwd: directory });
    const jobs = [...targets].map(([instance, path]) => {
      const relay = stack.use(relayTo(path));
      return `  - job_name: ${instance}\n    static_configs:\n` +
        `      - targets: ["127.0.0.1:${relay.port}"]\n        labels: {instance: ${instance}}\n`;
    });
    const text = `global:\n  scrape_interval: 1s\nscrape_configs:\n${jobs.join("")}`;
    await Deno.writeTextFile(`${directory}/prometheus.yml`, text);
    const port = freePort();
    const process = new ManagedProcess({
      name: "prometheus",
      command: [
        `${directory}/usr/bin/prometheus`,
        `--config.file=${directory}/prometheus.yml`,
        `--storage.tsdb.path=${directory}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      logPath: `${directory}/prometheus.log`,
    });
    stack.defer(() => process.stop());
    await process.start();
    await waitFor("Prometheus to answer", async () => {
      if (!process.running) throw new Error(await process.logTail());
      return (await fetch(`http://127.0.0.1:${port}/-/ready`)).ok;
    });
    return new Prometheus(port, stack.move());
  }

  /**
   * Asks for a diagram.
   *
   * @param query PromQL.
   * @param range Its first and its last moment and the time between two points, in seconds.
   */
  async range(
    query: string,
    range: { readonly from: number; readonly to: number; readonly step: number },
  ): Promise<Series[]> {
    const { from, to, step } = range;
    const body = new URLSearchParams({
      ...{ query, start: `${from}`, end: `${to}`, step: `${step}` },
    });
    const response = await fetch(`http://127.0.0.1:${this.#port}/api/v1/query_range`, {
      method: "POST",
      body,
    });
    const answer: RangeAnswer = await response.json();
    if (answer.data === undefined) throw new Error(`Cannot ask "${query}": ${answer.error}`);
    return answer.data.result.map(({ metric, values }) => ({
      labels: metric,
      points: values.map(([at, value]) => [at, Number(value)] as const)
        .filter(([, value]) => Number.isFinite(value)),
    }));
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** A port of loopback behind which a unix socket is: Prometheus asks ports only. */
function relayTo(path: string): Disposable & { readonly port: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  void (async () => {
    for await (const incoming of listener) void relay(incoming, path);
  })();
  return { port: listener.addr.port, [Symbol.dispose]: () => listener.close() };
}

/** One connection; what fails ends it, and the next scrape makes another. */
async function relay(incoming: Deno.Conn, path: string): Promise<void> {
  try {
    const outgoing = await Deno.connect({ transport: "unix", path });
    await Promise.all([
      incoming.readable.pipeTo(outgoing.writable),
      outgoing.readable.pipeTo(incoming.writable),
    ]);
  } catch {
    // See above.
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
