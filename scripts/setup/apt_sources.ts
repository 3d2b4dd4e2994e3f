/**
 * Reads where the machine gets its packages from, in both formats that apt knows, and writes a
 * source of the same archive for another suite. Source: sources.list(5).
 *
 * @module
 */

/** One source of packages, in the terms of the deb822 format. */
export interface SourceEntry {
  /** `deb` or `deb-src`, or both. */
  readonly types: readonly string[];
  /** Addresses of the archive. */
  readonly uris: readonly string[];
  /** Suites or code names, such as `trixie`. */
  readonly suites: readonly string[];
  /** Components, such as `main`. */
  readonly components: readonly string[];
  /** All other fields by their deb822 name, such as `Signed-By`; a value may have several lines. */
  readonly options: Readonly<Record<string, string>>;
}

/** The deb822 field of each option of a one-line source. */
const OPTION_FIELDS: Readonly<Record<string, string>> = {
  "allow-insecure": "Allow-Insecure",
  "allow-weak": "Allow-Weak",
  "arch": "Architectures",
  "by-hash": "By-Hash",
  "check-date": "Check-Date",
  "check-valid-until": "Check-Valid-Until",
  "lang": "Languages",
  "pdiffs": "PDiffs",
  "signed-by": "Signed-By",
  "target": "Targets",
  "trusted": "Trusted",
};

/**
 * Reads a sources file.
 *
 * @param path Its name decides the format: `.sources` is deb822, all else one line for each source.
 * @param text Its content.
 * @returns The sources that are switched on.
 */
export function parseSources(path: string, text: string): SourceEntry[] {
  return path.endsWith(".sources") ? parseStanzas(text) : parseLines(text);
}

/** The deb822 format: stanzas of fields, apart by empty lines. */
function parseStanzas(text: string): SourceEntry[] {
  const plain = text.split("\n").filter((line) => !line.startsWith("#")).join("\n");
  return plain.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = new Map<string, { readonly name: string; readonly value: string }>();
    for (const [, name = "", value = ""] of stanza.matchAll(/^([\w-]+):(.*(?:\n[ \t].*)*)/gm)) {
      fields.set(name.toLowerCase(), { name, value: value.trim() });
    }
    const words = (name: string) => fields.get(name)?.value.split(/\s+/).filter(Boolean) ?? [];
    const off = /^(no|false|without|off|disable)$/i.test(fields.get("enabled")?.value ?? "");
    if (off || words("types").length === 0) return [];
    const known = ["types", "uris", "suites", "components", "enabled"];
    const options = [...fields].filter(([name]) => !known.includes(name))
      .map(([, field]) => [field.name, field.value] as const);
    return [{
      types: words("types"),
      uris: words("uris"),
      suites: words("suites"),
      components: words("components"),
      options: Object.fromEntries(options),
    }];
  });
}

/** The one-line format: `deb [option=value ...] uri suite component ...`. */
function parseLines(text: string): SourceEntry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (match === null) return [];
    const [, type = "", settings = "", uri = "", suite = "", components = ""] = match;
    const options: Record<string, string> = {};
    for (const setting of settings.split(/\s+/).filter(Boolean)) {
      const [key = "", value = ""] = setting.split(/=(.*)/s);
      options[OPTION_FIELDS[key.toLowerCase()] ?? key] = value.replaceAll(",", " ");
    }
    return [{
      types: [type],
      uris: [uri],
      suites: [suite],
      components: components.split(/\s+/).filter(Boolean),
      options,
    }];
  });
}

/**
 * The source that brings one of the given suites with the component `main`.
 *
 * @param sources All sources of the machine.
 * @param suites Names under which the suite may be written, such as `bookworm` and `oldstable`.
 */
export function findSource(
  sources: readonly SourceEntry[],
  suites: readonly string[],
): SourceEntry | undefined {
  return sources.find((source) =>
    source.types.includes("deb") && source.components.includes("main") &&
    source.suites.some((suite) => suites.includes(suite))
  );
}

/**
 * A deb822 file for another suite of the same archive: same addresses, same keys, same options.
 *
 * @param source The source to copy.
 * @param suite The suite to read instead.
 * @param comment What the file is for, without `#`.
 */
export function writeSource(
  source: SourceEntry,
  suite: string,
  comment: readonly string[],
): string {
  const options = Object.entries(source.options).map(([name, value]) =>
    `${name}:${value.startsWith("-----") ? "\n " : " "}${value}`
  );
  return [
    ...comment.map((line) => `# ${line}`),
    "Types: deb",
    `URIs: ${source.uris.join(" ")}`,
    `Suites: ${suite}`,
    "Components: main",
    ...options,
    "",
  ].join("\n");
}
