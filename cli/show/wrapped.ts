/**
 * Long texts in lines that fit a terminal: broken between words, and commands so that they can still
 * be copied as they stand.
 *
 * @module
 */

/**
 * Breaks a text between its words.
 *
 * @param text One line.
 * @param columns Most characters of a line; a word that is longer stays whole.
 */
export function wrapped(text: string, columns: number): string[] {
  return lines(text.split(" "), columns);
}

/**
 * Breaks a command between its words, with a backslash at the end of each line but the last: a shell
 * takes it for one line. What is in quotes stays whole.
 *
 * @param command One line.
 * @param columns Most characters of a line, with the backslash.
 */
export function wrappedCommand(command: string, columns: number): string[] {
  if (command.length <= columns) return [command];
  const words = command.match(/(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\]|['"\\])+/gs) ?? [command];
  const continued = lines(words, columns - " \\".length);
  return continued.map((line, i) => i === continued.length - 1 ? line : `${line} \\`);
}

/** As many words on each line as fit, and at least one. */
function lines(words: readonly string[], columns: number): string[] {
  const made: string[] = [];
  let line: string | undefined;
  for (const word of words) {
    if (line !== undefined && line.length + 1 + word.length > columns) {
      made.push(line);
      line = undefined;
    }
    line = line === undefined ? word : `${line} ${word}`;
  }
  return [...made, line ?? ""];
}
