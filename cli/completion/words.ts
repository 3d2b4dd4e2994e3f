/**
 * What can come next on a command line, from the definitions of the commands: verbs, options, values
 * of options and arguments, and names of what runs.
 *
 * @module
 */

import type { Command, Option } from "commander";

/** What stands in the place of candidates where the shell knows better. */
export const FILES = ":files";

/** A word that can come next. */
export interface Candidate {
  /** The word. */
  readonly word: string;
  /** What it is for; empty where it says so itself. */
  readonly about: string;
}

/** What can come next: these words, or a path. */
export type Next = typeof FILES | readonly Candidate[];

/** Values that are known, by what stands for them. */
export interface KnownValues {
  /**
   * The value of an option.
   *
   * @param command The verb, with those above it, such as `ps` or `containerd config`.
   * @param option The option's long name.
   * @returns Undefined where nothing is known of it.
   */
  option(command: string, option: string): readonly Candidate[] | undefined;
  /**
   * An argument.
   *
   * @param command As above.
   * @param argument Its name as the help has it.
   * @param current What is typed of it.
   * @param at Which of the arguments it is, from 0.
   */
  argument(
    command: string,
    argument: string,
    current: string,
    at: number,
  ): Promise<readonly Candidate[] | undefined>;
}

/** Where a command line stands. */
interface Place {
  readonly command: Command;
  /** The verb, with those above it. */
  readonly name: string;
  /** Arguments of the verb that are there already. */
  readonly args: readonly string[];
  /** The option that waits for its value. */
  readonly option: Option | undefined;
  /** Whether options are over. */
  readonly isPlain: boolean;
}

/**
 * Says what can come next.
 *
 * @param program The commands.
 * @param words The words so far, without the program; the last is being typed and may be empty.
 * @param known Values that are known.
 */
export async function nextWords(
  program: Command,
  words: readonly string[],
  known: KnownValues,
): Promise<Next> {
  const current = words.at(-1) ?? "";
  const place = placeOf(program, words.slice(0, -1));
  const { command, name, args, isPlain } = place;
  const [, long, typed] = /^(--[a-z-]+)=(.*)$/s.exec(current) ?? [];
  if (place.option !== undefined) {
    return fitting(valuesOf(known, name, place.option), current, "");
  }
  if (!isPlain && long !== undefined && typed !== undefined) {
    const option = optionsOf(command).find((option) => option.long === long);
    const values = option === undefined ? [] : valuesOf(known, name, option);
    return fitting(values, typed, `${long}=`);
  }
  if (!isPlain && current.startsWith("-")) return fitting(optionWords(command), current, "");
  const verbs = visible(command);
  if (verbs.length > 0 && args.length === 0) {
    const candidates = verbs.map((verb) => ({ word: verb.name(), about: verb.description() }));
    return fitting(candidates, current, "");
  }
  const declared = command.registeredArguments;
  const last = declared.at(-1);
  const argument = declared[args.length] ?? (last?.variadic === true ? last : undefined);
  if (argument === undefined) return [];
  const values = await known.argument(name, argument.name(), current, args.length);
  return fitting(values ?? FILES, current, "");
}

/** Follows a command line to where it stands. */
function placeOf(program: Command, words: readonly string[]): Place {
  let command = program;
  const names: string[] = [];
  let args: string[] = [];
  let option: Option | undefined;
  let isPlain = false;
  for (const word of words) {
    if (option !== undefined) {
      option = undefined;
      continue;
    }
    if (!isPlain && word === "--") {
      isPlain = true;
      continue;
    }
    if (!isPlain && word.startsWith("-") && word !== "-") {
      const found = optionOf(command, word);
      option = found?.required === true && !word.includes("=") ? found : undefined;
      continue;
    }
    const verb = args.length === 0
      ? visible(command).find((verb) => verb.name() === word || verb.aliases().includes(word))
      : undefined;
    if (verb === undefined) {
      args = [...args, word];
      // What a program in a sandbox takes is its own.
      if (passesThrough(command) && args.length >= 2) isPlain = true;
      continue;
    }
    command = verb;
    names.push(verb.name());
  }
  return { command, name: names.join(" "), args, option, isPlain };
}

/** Whether words after the second argument are a program's own. */
function passesThrough(command: Command): boolean {
  return command.registeredArguments.at(-1)?.variadic === true &&
    command.registeredArguments.length > 1;
}

/** The options of a command, those above it and the one for help. */
function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function optionOf(command: Command, word: string): Option | undefined {
  const [name] = word.split("=");
  const options = optionsOf(command);
  const long = options.find((option) => option.long === name || option.short === name);
  if (long !== undefined || word.startsWith("--")) return long;
  // Letters in one word: only the last of them can wait for a value.
  return options.find((option) => option.short === `-${word.at(-1)}`);
}

function optionWords(command: Command): Candidate[] {
  return optionsOf(command).flatMap(({ long, short, description }) =>
    [long, short].flatMap((word) => word ? [{ word, about: description }] : [])
  );
}

/** The commands below one that are not hidden. */
function visible(command: Command): readonly Command[] {
  return command.createHelp().visibleCommands(command);
}

function valuesOf(known: KnownValues, command: string, option: Option): Next {
  return known.option(command, option.long ?? "") ?? FILES;
}

/** Those that begin with what is typed, with what goes before them in the same word. */
function fitting(next: Next, typed: string, before: string): Next {
  if (next === FILES) return FILES;
  return next.filter(({ word }) => word.startsWith(typed))
    .map(({ word, about }) => ({ word: before + word, about }));
}
