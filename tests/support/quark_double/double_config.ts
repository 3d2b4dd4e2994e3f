/**
 * The configuration of the double: Quark's own file, with a member `Double` for tests.
 *
 * @module
 */

/** What goes wrong, where a test wants it. */
export type DoubleFault =
  /** The program ends before it has made anything. */
  | "dies-at-start"
  /** The sandbox's process ends as soon as it is on its own. */
  | "boot-dies"
  /** Nobody ever listens at the task socket. */
  | "never-listens"
  /** What answers at the task socket is no ttrpc. */
  | "garbage"
  /** Connections are accepted and never answered. */
  | "mute"
  /** All connections are closed whenever there is a file with the socket's name and `.drop`. */
  | "drops-connections"
  /** The program says nothing of the process that stays. */
  | "no-pid-file"
  /** Quark forgets containers: it answers NotFound to all calls but Create. */
  | "forgets";

/** The configuration. */
export interface DoubleConfig {
  /** As in Quark's file. */
  readonly Sandboxed: boolean;
  /** As in Quark's file. */
  readonly ShimMode: boolean;
  /** What only the double has. */
  readonly Double?: {
    /** What goes wrong. */
    readonly fault?: DoubleFault;
    /** How long each call takes beyond what it takes, in milliseconds. */
    readonly slowMs?: number;
    /** Whether it measures containers: Quark answers with nothing in it. */
    readonly measures?: boolean;
  };
}

/**
 * Reads the file that the environment names in the place of /etc/quark/config.json.
 *
 * @throws Where it is missing: Quark would go on with defaults that are not for sandboxes.
 */
export async function readDoubleConfig(): Promise<DoubleConfig> {
  const path = Deno.env.get("QUARK_DOUBLE_CONFIG") ?? "/etc/quark/config.json";
  const value: DoubleConfig = JSON.parse(await Deno.readTextFile(path));
  return value;
}
