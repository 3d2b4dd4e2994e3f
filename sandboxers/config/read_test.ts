import assert from "node:assert/strict";
import { configFromFlag } from "./file.ts";
import { printConfig, sampleConfig } from "./print.ts";
import { type ReadConfig, readConfig, valuesOrThrow } from "./read.ts";
import { type Section, section, setting } from "./schema.ts";
import { parseToml } from "./toml.ts";
import { choice, FLAG, integer, list, numberOr, PATH, PATH_OR_NONE, text } from "./value_types.ts";

interface Kitchen {
  readonly name: string;
  readonly oven: {
    readonly maxHeat: number;
    readonly mode: "top" | "bottom" | "both";
    readonly door: { readonly open: boolean };
  };
  readonly shelf: {
    readonly place: string;
    readonly spare: string;
    readonly jars: readonly number[];
    readonly timer: number | "never";
  };
}

const KITCHEN: Section<Kitchen> = section("", {
  name: setting(text(/^[a-z]+$/, "lower case letters"), "home", "What it is called."),
  oven: section(["The oven.", "It is hot."], {
    maxHeat: setting(integer(0, 250, "degrees"), 200, "The limit."),
    mode: setting(choice(["top", "bottom", "both"], { all: "both" }), "both", "Where."),
    door: section("The door.", { open: setting(FLAG, false, "Whether.") }),
  }),
  shelf: section("The shelf.", {
    place: setting(PATH, "/wall", "Where it is."),
    spare: setting(PATH_OR_NONE, "", "Another."),
    jars: setting(list(integer(1, 9)), [1, 2], "Sizes."),
    timer: setting(numberOr(integer(1, 60), choice(["never"])), "never", "Minutes."),
  }),
});

function read(text: string, ...flags: string[]): ReadConfig<Kitchen> {
  return readConfig(KITCHEN, [
    { table: parseToml(text, "test"), place: (line) => `k.toml:${line}` },
    ...flags.map((flag) => configFromFlag(flag, "--set")),
  ], {
    foreign: { "oven.gas": "it is electric: remove it" },
    check: ({ oven }, problem) => {
      if (oven.door.open && oven.maxHeat > 100) problem("oven.max_heat", "is too hot");
    },
  });
}

Deno.test("readConfig() gives defaults where nothing is said", () => {
  const { values, places, problems } = read("");
  assert.deepEqual(values, {
    name: "home",
    oven: { maxHeat: 200, mode: "both", door: { open: false } },
    shelf: { place: "/wall", spare: "", jars: [1, 2], timer: "never" },
  });
  assert.equal(places.size, 0);
  assert.deepEqual(problems, []);
});

Deno.test("readConfig() takes what is said, in every way to write it", () => {
  const { values, problems } = read(`name = "inn"
oven.max_heat = 0x10
oven.mode = "all"
[oven.door]
open = true
[shelf]
place = "/a/b/"
spare = '/c'
jars = [
  3, # three
  4,
]
timer = 7
`);
  assert.deepEqual(problems, []);
  assert.deepEqual(values, {
    name: "inn",
    oven: { maxHeat: 16, mode: "both", door: { open: true } },
    shelf: { place: "/a/b", spare: "/c", jars: [3, 4], timer: 7 },
  });
});

Deno.test("readConfig() tells everything that is wrong, with place, finding and expectation", () => {
  const { problems } = read(`nam = "x"
name = 3
[oven]
max_heat = 251
mode = "sideways"
gas = true
[oven.door]
open = "yes"
[shelf]
place = "here"
jars = [1, "two"]
timer = "soon"
max_heat = 1
[garage]
car = 1
`);
  assert.deepEqual(problems, [
    'k.toml:1: unknown key "nam": did you mean "name"?',
    'k.toml:14: unknown key "garage"',
    'k.toml:2: "name" is the number 3: expected lower case letters',
    'k.toml:6: unknown key "oven.gas": it is electric: remove it',
    'k.toml:4: "oven.max_heat" is the number 251: expected an integer from 0 to 250 (degrees)',
    'k.toml:5: "oven.mode" is the text "sideways": expected one of "top", "bottom", "both"',
    'k.toml:8: "oven.door.open" is the text "yes": expected true or false',
    'k.toml:13: unknown key "shelf.max_heat": did you mean "oven.max_heat"?',
    'k.toml:10: "shelf.place" is the text "here": expected an absolute path without ".."',
    'k.toml:11: "shelf.jars" is a list of 2: expected a list, each item an integer from 1 to 9',
    'k.toml:12: "shelf.timer" is the text "soon": expected an integer from 1 to 60, or "never"',
  ]);
});

Deno.test("readConfig() refuses values that only look right", () => {
  const wrong: [string, RegExp][] = [
    ["oven.max_heat = 2.0", /is the number 2: expected an integer/],
    ["oven.max_heat = -1", /is the number -1/],
    ["oven.max_heat = 9223372036854775807", /is the number 9223372036854775807/],
    ["oven.max_heat = 1979-05-27", /is the date 1979-05-27/],
    ["oven = 1", /"oven" is the number 1: expected a table, \[oven\]/],
    ["[[oven]]\nmax_heat = 1", /"oven" is a list of 1: expected a table/],
    ["[name]\nx = 1", /"name" is a table/],
    ['shelf.place = "/a/../b"', /"\/a\/\.\.\/b": expected an absolute path/],
    ['shelf.place = "/a\\nb"', /expected an absolute path/],
    ['oven.mode = "constructor"', /expected one of/],
    ["__proto__ = 1", /unknown key "__proto__"/],
    ["constructor.prototype = 1", /unknown key "constructor"/],
  ];
  for (const [text, message] of wrong) {
    const { problems } = read(text);
    assert.equal(problems.length, 1, text);
    assert.match(problems[0] ?? "", message);
  }
});

Deno.test("readConfig() lets a flag go before the file, and names it", () => {
  const { values, places } = read(
    "oven.max_heat = 1\nname = 'inn'",
    "oven.max_heat=7",
    "name='bar'",
  );
  assert.equal(values.oven.maxHeat, 7);
  assert.equal(values.name, "bar");
  assert.equal(places.get("name"), "--set");
  assert.equal(read("", "oven.mode=top").values.oven.mode, "top");
  assert.deepEqual(read("", "oven.max_heat=many").problems, [
    '--set: "oven.max_heat" is the text "many": expected an integer from 0 to 250 (degrees)',
  ]);
  for (const flag of ["oven", "=1", "oven.max_heat=", 'name="x', "name 'x'"]) {
    assert.throws(() => read("", flag), { code: "InvalidArgument", message: /^cannot read --set/ });
  }
});

Deno.test("readConfig() tells of values that do not go together, by the file's line", () => {
  assert.deepEqual(read("\n[oven]\nmax_heat = 150\ndoor.open = true").problems, [
    'k.toml:3: "oven.max_heat" is too hot',
  ]);
  assert.deepEqual(read("oven.door.open = true").problems, [
    'default: "oven.max_heat" is too hot',
  ]);
});

Deno.test("valuesOrThrow() puts all problems into one error, up to a bound", () => {
  const many = Array.from({ length: 30 }, (_, i) => `unknown${i} = 1`).join("\n");
  assert.throws(() => valuesOrThrow(read(many), "of the kitchen"), {
    code: "InvalidArgument",
    message: /^cannot use the configuration of the kitchen: k\.toml:1: .*; and 20 more$/,
  });
});

Deno.test("printConfig() says where each value comes from, and can be read back", () => {
  const first = read(
    `name = "inn"\n[shelf]\njars = [5]\nspare = "/with \\"quotes\\" \\\\ "\n`,
    "oven.max_heat=9",
  );
  const printed = printConfig(KITCHEN, first.values, first.places);
  assert.equal(
    printed,
    `name = "inn"  # k.toml:1

[oven]
max_heat = 9  # --set
mode = "both"  # default

[oven.door]
open = false  # default

[shelf]
place = "/wall"  # default
spare = "/with \\"quotes\\" \\\\ "  # k.toml:4
jars = [5]  # k.toml:3
timer = "never"  # default
`,
  );
  assert.deepEqual(read(printed).values, first.values);
});

Deno.test("sampleConfig() has every key commented out, and its defaults when they are not", () => {
  const sample = sampleConfig(KITCHEN, ["A kitchen."]);
  assert.deepEqual(read(sample).values, read("").values);
  const all = sample.replaceAll(/^# (\w+ = )/gm, "$1");
  const { values, places, problems } = read(all);
  assert.deepEqual(problems, []);
  assert.deepEqual(values, read("").values);
  assert.equal(places.size, 8);
  assert.match(sample, /^# A kitchen\.\n/);
  assert.match(sample, /\n# The oven\.\n# It is hot\.\n\[oven\]\n/);
});
