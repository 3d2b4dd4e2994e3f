/**
 * Where a containerd looks for CNI, as its configuration says.
 *
 * @module
 */

import { getStaticTOMLValue, parseTOML } from "toml-eslint-parser";
import type { CniPlaces } from "./host.ts";

/** Where it looks unless it is told otherwise. */
const DEFAULT_PROGRAMS = ["/opt/cni/bin"];
const DEFAULT_NETWORKS = "/etc/cni/net.d";

/** The CRI plugins that have a section for CNI: of version 3, and of version 2. */
const PLUGINS = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];

/**
 * Reads them.
 *
 * @param text containerd's configuration; what is no TOML says nothing.
 */
export function cniPlacesOf(text: string): CniPlaces {
  const sections = PLUGINS.map((plugin) => tableAt(parse(text), ["plugins", plugin, "cni"]));
  const value = (key: string) =>
    sections.map((section) => section.get(key)).find((each) => each !== undefined);
  const [many, one] = [value("bin_dirs"), value("bin_dir")];
  const networks = value("conf_dir");
  const programs = Array.isArray(many) ? many.filter((each) => typeof each === "string") : [];
  return {
    programs: programs.length > 0 ? programs : typeof one === "string" ? [one] : DEFAULT_PROGRAMS,
    networks: typeof networks === "string" ? networks : DEFAULT_NETWORKS,
  };
}

function parse(text: string): unknown {
  try {
    return getStaticTOMLValue(parseTOML(text, { tomlVersion: "1.0" }));
  } catch {
    return undefined;
  }
}

/** A table by its keys from the root; empty where there is none. */
function tableAt(root: unknown, path: readonly string[]): ReadonlyMap<string, unknown> {
  let at = root;
  for (const key of path) at = entriesOf(at).get(key);
  return entriesOf(at);
}

function entriesOf(value: unknown): ReadonlyMap<string, unknown> {
  return typeof value === "object" && value !== null ? new Map(Object.entries(value)) : new Map();
}
