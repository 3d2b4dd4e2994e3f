/**
 * How Quark ends when something is not as it expects: with words on standard error, and status 101.
 *
 * @module
 */

/** Ends the process. */
export function panic(why: string): never {
  const line = `thread 'main' panicked at '${why}'\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(line));
  Deno.exit(101);
}
