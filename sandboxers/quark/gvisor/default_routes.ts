/**
 * Default routes of a pod. Linux takes the one of the lowest metric; gVisor's own network can have one
 * for each of IPv4 and IPv6, and runsc refuses a pod that has more. So the others are taken away
 * before it looks.
 *
 * @module
 */

/** Most routes of a pod that are looked at. */
const ROUTES_MAX = 1024;

/** A default route. */
interface DefaultRoute {
  /** Whether it is of IPv6. */
  readonly isV6: boolean;
  /** The gateway; empty for none. */
  readonly gateway: string;
  /** The interface. */
  readonly device: string;
  /** The lower, the better. */
  readonly metric: number;
}

/**
 * What takes away all default routes but the one that Linux would use.
 *
 * @param text What `ip -j -d route show table all` says.
 * @returns Commands for `ip -batch`; none where there is nothing to take away.
 */
export function surplusDefaultRoutes(text: string): string[] {
  const routes = parseDefaultRoutes(text);
  return [false, true].flatMap((isV6) =>
    // Of equal metrics the first counts, in Linux and here.
    routes.filter((route) => route.isV6 === isV6).sort((a, b) => a.metric - b.metric).slice(1)
  ).map(({ isV6, gateway, device, metric }) => {
    const via = gateway === "" ? "" : ` via ${gateway}`;
    return `route del ${isV6 ? "::/0" : "0.0.0.0/0"}${via} dev ${device} metric ${metric}`;
  });
}

function parseDefaultRoutes(text: string): DefaultRoute[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(list)) return [];
  return list.slice(0, ROUTES_MAX).flatMap((entry: unknown) => {
    const fields = new Map(
      typeof entry === "object" && entry !== null ? Object.entries(entry) : [],
    );
    const word = (name: string): string => {
      const value: unknown = fields.get(name);
      return typeof value === "string" ? value : "";
    };
    const isMain = ["", "main"].includes(word("table")) && ["", "unicast"].includes(word("type"));
    const [device, gateway, metric = 0] = [word("dev"), word("gateway"), fields.get("metric")];
    if (word("dst") !== "default" || !isMain || typeof metric !== "number") return [];
    // They become words of a command.
    if (!/^[^\s/"'\\]{1,15}$/.test(device) || !/^[0-9a-f.:]*$/i.test(gateway)) return [];
    return [{ isV6: gateway.includes(":") || fields.has("pref"), gateway, device, metric }];
  });
}
