/**
 * Remembers the choice of an accelerator until the host is started again, in one small file.
 *
 * @module
 */

/** Who executes guests. */
export interface ChosenAccelerator {
  /** Who. */
  readonly accelerator: "kvm" | "tcg";
  /** Why, for people. */
  readonly why: string;
  /** The frequency of the host's time stamp counter in kHz, which TCG's guests see. */
  readonly tscKhz: number;
}

/** What a choice holds for. */
export interface ChoiceKey {
  /** This start of the host. */
  readonly bootId: string;
  /** The VMM and its version. */
  readonly hypervisor: string;
  /** What the configuration says. */
  readonly wanted: string;
}

/**
 * Reads a choice.
 *
 * @param file The file, an absolute path.
 * @param key What it must hold for.
 * @returns undefined where there is none for that.
 */
export async function readChoice(
  file: string,
  key: ChoiceKey,
): Promise<ChosenAccelerator | undefined> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(file));
  } catch {
    // Missing, unreadable or damaged: it is found out again.
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = new Map<string, unknown>(Object.entries(value));
  const same = Object.entries(key).every(([name, wanted]) => fields.get(name) === wanted);
  const [accelerator, why, tscKhz] = ["accelerator", "why", "tscKhz"].map((name) =>
    fields.get(name)
  );
  // Without a boot id it would be remembered for ever.
  if (!same || key.bootId === "") return undefined;
  if (accelerator !== "kvm" && accelerator !== "tcg") return undefined;
  if (typeof why !== "string" || typeof tscKhz !== "number") return undefined;
  return Number.isSafeInteger(tscKhz) && tscKhz >= 0 ? { accelerator, why, tscKhz } : undefined;
}

/**
 * Writes a choice.
 *
 * @param file The file, an absolute path; replaced as a whole.
 * @param key What it holds for.
 * @param chosen The choice.
 */
export async function writeChoice(
  file: string,
  key: ChoiceKey,
  chosen: ChosenAccelerator,
): Promise<void> {
  const temporary = `${file}.${crypto.randomUUID()}.new`;
  try {
    await Deno.writeTextFile(temporary, `${JSON.stringify({ ...key, ...chosen })}\n`);
    await Deno.rename(temporary, file);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}
