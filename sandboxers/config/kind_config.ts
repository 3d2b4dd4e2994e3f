/**
 * The configuration of one kind of sandboxer: its schema with its file, its flag and its sample. Every
 * kind that has one is declared with this, so that all are read, checked and printed alike.
 *
 * @module
 */

import { absolutePath, type KindFlag } from "../flags.ts";
import type { LogLevel } from "../log.ts";
import { configFromFlag, readConfigFile, readOptionalConfigFile } from "./file.ts";
import { printConfig, sampleConfig } from "./print.ts";
import {
  type ConfigSource,
  type ReadConfig,
  readConfig,
  type SchemaNotes,
  valuesOrThrow,
} from "./read.ts";
import type { Section } from "./schema.ts";

/** What a configuration is made of. */
export interface ConfigOptions {
  /** The file; it has to be there. Default: the kind's own, where that is there. */
  readonly file?: string | undefined;
  /** Settings that go before those of the file, as TOML: `hypervisor.vcpus=2`. */
  readonly set?: readonly string[];
}

/** What a {@link KindConfig} is made of. */
export interface KindConfigParts<T> extends SchemaNotes<T> {
  /** The kind: `vmm` or `quark`. */
  readonly kind: string;
  /** The schema. */
  readonly schema: Section<T>;
  /** The file that is read unless another is named; it need not be there. */
  readonly file: string;
}

/** What every kind can be configured of. */
export interface CommonConfig {
  /** The sandboxer's own. */
  readonly sandbox: {
    /** Below it nothing is logged. */
    readonly logLevel: LogLevel;
  };
}

/** The configuration of a kind. */
export class KindConfig<T extends CommonConfig> {
  readonly #parts: KindConfigParts<T>;

  /**
   * Declares it; nothing is read.
   *
   * @param parts See {@link KindConfigParts}.
   */
  constructor(parts: KindConfigParts<T>) {
    this.#parts = parts;
  }

  /** The kind. */
  get kind(): string {
    return this.#parts.kind;
  }

  /** The file that is read unless another is named. */
  get defaultFile(): string {
    return this.#parts.file;
  }

  /**
   * Reads the configuration, with all that is wrong with it.
   *
   * @param options See {@link ConfigOptions}.
   * @throws {SandboxError} `NotFound` for a named file that is missing; `PermissionDenied`;
   *   `InvalidArgument` where it is not TOML.
   */
  read(options: ConfigOptions = {}): ReadConfig<T> {
    return readConfig(this.#parts.schema, this.#sourcesOf(options), this.#parts);
  }

  /**
   * The configuration, which is right.
   *
   * @param options See {@link ConfigOptions}.
   * @throws {SandboxError} As {@link KindConfig.read}, and `InvalidArgument` with all that is wrong.
   */
  load(options: ConfigOptions = {}): T {
    return valuesOrThrow(this.read(options), this.#what);
  }

  /** The configuration without any file. */
  defaults(): T {
    return valuesOrThrow(readConfig(this.#parts.schema, [], this.#parts), this.#what);
  }

  /**
   * The configuration as TOML, each value with where it comes from.
   *
   * @param read What was read.
   */
  print({ values, places }: ReadConfig<T>): string {
    return printConfig(this.#parts.schema, values, places);
  }

  /** A file with every key, commented out. */
  sample(): string {
    const { kind, schema, file } = this.#parts;
    return sampleConfig(schema, [
      `Configuration of the ${kind} sandboxer. Copy it to ${file}, or name it with --config.`,
      `Every key is shown with its default; \`quasaur config ${kind}\` prints what is in effect.`,
    ]);
  }

  /** The flag `--config`. Its value is the configuration that was read. */
  flag(): KindFlag<T> {
    const { kind, file } = this.#parts;
    return {
      placeholder: "FILE",
      short: "c",
      help: [
        `configuration, in TOML; \`quasaur config ${kind}\` prints what is in`,
        `effect (default ${file}, which need not be there)`,
      ],
      read: (flag, text) =>
        this.load({ file: text === undefined ? undefined : absolutePath(flag, text) }),
      logLevel: ({ sandbox }) => sandbox.logLevel,
    };
  }

  get #what(): string {
    return `of the ${this.#parts.kind} sandboxer`;
  }

  #sourcesOf({ file, set = [] }: ConfigOptions): ConfigSource[] {
    const fromFile = file === undefined
      ? readOptionalConfigFile(this.#parts.file)
      : readConfigFile(file);
    const fromFlags = set.map((text) => configFromFlag(text, "--set"));
    return [...(fromFile === undefined ? [] : [fromFile]), ...fromFlags];
  }
}
