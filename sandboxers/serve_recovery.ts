/**
 * The lifecycle of a sandboxer process, from what an earlier process left to what is done now and
 * then: nobody serves before it is taken over.
 *
 * @module
 */

import { EventPublisher } from "../task/events.ts";
import { collectWhenIdle } from "./idle_collection.ts";
import { Sandboxer } from "./lifecycle/sandboxer.ts";
import { type Composed, isManaged } from "./management/ports.ts";
import { endGivenUp } from "./serve_given_up.ts";
import type { ServeOptions } from "./serve_options.ts";
import { recoveryMetrics } from "./telemetry/lifecycle_metrics.ts";
import { noTelemetry } from "./telemetry/telemetry.ts";

/** How often sandboxes that nobody starts are looked for, at the least, in milliseconds. */
const LOOK_MS_MAX = 60_000;

/**
 * Makes the lifecycle and takes over what there is.
 *
 * @param options What the process is made of.
 * @param resources Gets what ends with the process.
 * @throws {SandboxError} Where the state cannot be read.
 */
export async function recoverLifecycle(
  options: ServeOptions,
  resources: AsyncDisposableStack,
): Promise<Composed> {
  const { containerdEvents, telemetry = noTelemetry, log } = options;
  const made = await composed(options);
  const { sandboxer } = made;
  if (containerdEvents !== undefined) {
    const publisher = resources.use(new EventPublisher({ address: containerdEvents, log }));
    resources.use(sandboxer.subscribe(publisher.publish));
  }
  const begin = performance.now();
  const summary = await sandboxer.recover();
  recoveryMetrics(telemetry, summary, (performance.now() - begin) / 1000);
  log.info("recovered", { ...summary });
  sandboxer.driver.onCallersLost?.(() =>
    void endGivenUp({ sandboxer, isContainerds: ({ spec }) => !isManaged(spec), log })
  );
  resources.use(expireUnstarted(sandboxer, options));
  resources.use(collectWhenIdle(sandboxer));
  return made;
}

/** The lifecycle, with what its kind adds to it. */
async function composed({ sandboxer }: ServeOptions): Promise<Composed> {
  const made = typeof sandboxer === "function" ? await sandboxer() : sandboxer;
  return made instanceof Sandboxer ? { sandboxer: made, abilities: {} } : made;
}

/** Deletes sandboxes that nobody starts, until it is disposed of. */
function expireUnstarted(
  sandboxer: Sandboxer,
  { unstartedSecondsMax, log }: ServeOptions,
): Disposable {
  const olderThanMs = unstartedSecondsMax * 1000;
  if (olderThanMs === 0) return { [Symbol.dispose]: () => undefined };
  const timer = setInterval(() => {
    sandboxer.deleteUnstarted(olderThanMs).catch((error: unknown) =>
      log.warn("cannot delete a sandbox that nobody started", { error })
    );
  }, Math.min(olderThanMs / 2, LOOK_MS_MAX));
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
