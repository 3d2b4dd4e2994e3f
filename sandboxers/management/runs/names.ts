/**
 * Names of sandboxes whose maker did not give one: two words that can be remembered and typed.
 *
 * @module
 */

const FIRST = [
  "amber",
  "bold",
  "brave",
  "brisk",
  "calm",
  "clear",
  "clever",
  "cosy",
  "deft",
  "eager",
  "early",
  "fair",
  "fleet",
  "fond",
  "fresh",
  "gentle",
  "glad",
  "grand",
  "happy",
  "keen",
  "kind",
  "lively",
  "loyal",
  "lucky",
  "merry",
  "mild",
  "neat",
  "noble",
  "proud",
  "quick",
  "quiet",
  "rapid",
  "ready",
  "rustic",
  "sharp",
  "shiny",
  "silent",
  "smart",
  "solid",
  "steady",
  "sunny",
  "swift",
  "tidy",
  "warm",
  "wise",
  "witty",
  "young",
  "zesty",
];

const SECOND = [
  "alder",
  "aspen",
  "badger",
  "beech",
  "birch",
  "bison",
  "cedar",
  "comet",
  "crane",
  "delta",
  "ember",
  "falcon",
  "fern",
  "finch",
  "fjord",
  "fox",
  "glade",
  "grove",
  "harbor",
  "hawk",
  "heron",
  "island",
  "ivy",
  "jay",
  "lagoon",
  "lark",
  "maple",
  "marten",
  "meadow",
  "moose",
  "newt",
  "oak",
  "orbit",
  "osprey",
  "otter",
  "owl",
  "pine",
  "puffin",
  "raven",
  "reef",
  "robin",
  "seal",
  "sparrow",
  "stone",
  "tern",
  "tulip",
  "valley",
  "wren",
];

/** Names that are tried before a number is added. */
const TRIES = 8;

/**
 * Makes a name up.
 *
 * @param isTaken Whether a name is taken.
 */
export function makeUpName(isTaken: (name: string) => boolean): string {
  for (let i = 0; i < TRIES; i++) {
    const name = `${pick(FIRST)}-${pick(SECOND)}`;
    if (!isTaken(name)) return name;
  }
  const suffix = crypto.getRandomValues(new Uint8Array(4)).toHex();
  return `${pick(FIRST)}-${pick(SECOND)}-${suffix}`;
}

function pick(words: readonly string[]): string {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return words[random % words.length] ?? "";
}
