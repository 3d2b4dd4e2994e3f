/**
 * Compares version numbers of Debian packages without asking dpkg. Source: deb-version(7).
 *
 * @module
 */

/**
 * Compares two versions.
 *
 * @param a A version such as `2:1.6.20~ds1-1+deb12u3`.
 * @param b Another.
 * @returns Less than 0, 0 or more than 0 where `a` is older than, equal to or newer than `b`.
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [split(a), split(b)];
  return left.epoch - right.epoch ||
    comparePart(left.upstream, right.upstream) ||
    comparePart(left.revision, right.revision);
}

/**
 * Whether a version is enough.
 *
 * @param version The version that is there.
 * @param minimum The oldest that will do; undefined where any will do. Epochs count only where the
 *   minimum has one.
 */
export function isAtLeast(version: string, minimum: string | undefined): boolean {
  if (minimum === undefined) return true;
  const plain = minimum.includes(":") ? version : version.replace(/^\d+:/, "");
  return compareVersions(plain, minimum) >= 0;
}

/** A version in its three parts. */
function split(version: string): { epoch: number; upstream: string; revision: string } {
  const [, epoch = "0", rest = ""] = /^(?:(\d+):)?(.*)$/s.exec(version) ?? [];
  const dash = rest.lastIndexOf("-");
  return {
    epoch: Number(epoch),
    upstream: dash < 0 ? rest : rest.slice(0, dash),
    revision: dash < 0 ? "" : rest.slice(dash + 1),
  };
}

/** Compares by turns a run of other characters and a run of digits. */
function comparePart(a: string, b: string): number {
  const [left, right] = [a.match(/\D*\d*/g) ?? [], b.match(/\D*\d*/g) ?? []];
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const [, textA = "", numberA = ""] = /^(\D*)(\d*)$/.exec(left[index] ?? "") ?? [];
    const [, textB = "", numberB = ""] = /^(\D*)(\d*)$/.exec(right[index] ?? "") ?? [];
    const order = compareText(textA, textB) || Number(numberA) - Number(numberB);
    if (order !== 0) return order;
  }
  return 0;
}

/** Compares character by character: `~` before the end, the end before letters, letters first. */
function compareText(a: string, b: string): number {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const order = weight(a[index]) - weight(b[index]);
    if (order !== 0) return order;
  }
  return 0;
}

/** The rank of one character; undefined is the end. */
function weight(character: string | undefined): number {
  if (character === undefined) return 0;
  if (character === "~") return -1;
  const code = character.charCodeAt(0);
  return /[A-Za-z]/.test(character) ? code : code + 256;
}
