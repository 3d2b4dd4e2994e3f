/**
 * What the command itself says. Messages go to standard error, as standard output is the guest's.
 *
 * @module
 */

const encoder = new TextEncoder();

/** Writes text to standard output. */
export function print(text: string): void {
  write(Deno.stdout, text);
}

/** Writes text to standard error. */
export function printError(text: string): void {
  write(Deno.stderr, text);
}

/** Tells on standard error what went wrong, as one line. */
export function complain(message: string): void {
  printError(`quasaur: ${message}\n`);
}

function write(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = encoder.encode(text);
  try {
    let written = 0;
    while (written < bytes.length) written += to.writeSync(bytes.subarray(written));
  } catch (error) {
    // The reader has gone: nobody is left to tell.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
