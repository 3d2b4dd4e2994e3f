/**
 * What the vmm kind has to say of itself: machines that are kept ready, templates.
 *
 * @module
 */

import type { Meter } from "../telemetry/meter.ts";
import type { Pool } from "./template/pool.ts";
import type { Templates } from "./template/templates.ts";

/**
 * Has pool and templates read with the other metrics.
 *
 * @param meter Reads metrics.
 * @param pool Machines that are kept ready; undefined where none are.
 * @param templates What machines are cloned from; undefined where they are booted.
 */
export function vmmMetrics(
  meter: Meter,
  pool: Pick<Pool, "count"> | undefined,
  templates: Pick<Templates, "counts"> | undefined,
): void {
  for (const origin of ["pool", "clone", "boot"]) {
    meter.count("quasaur_vmm_machines_total", { origin }, 0);
  }
  meter.onRead((registry) => {
    registry.set("quasaur_vmm_pool_machines", {}, pool?.count ?? 0);
    const { known = 0, built = 0, failed = 0 } = templates?.counts ?? {};
    registry.set("quasaur_vmm_templates", {}, known);
    registry.set("quasaur_vmm_template_builds_total", { result: "ok" }, built);
    registry.set("quasaur_vmm_template_builds_total", { result: "failed" }, failed);
  });
}
