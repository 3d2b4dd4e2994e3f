import assert from "node:assert/strict";
import { parseToml, type TomlValue } from "./toml.ts";

/** Each leaf by path, with its value and the line of its key. */
function leaves(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (value: TomlValue, path: string, line: number): void => {
    if (value.kind === "table") {
      for (const [key, entry] of value.entries) {
        walk(entry.value, path === "" ? key : `${path}.${key}`, entry.line);
      }
    } else if (value.kind === "list") {
      for (const [i, item] of value.items.entries()) walk(item, `${path}[${i}]`, item.line);
    } else {
      found[path] = `${value.kind === "date" ? value.text : value.value} @${line}`;
    }
  };
  walk(parseToml(text, "test"), "", 0);
  return found;
}

Deno.test("parseToml() knows the line of every key, however it is written", () => {
  const text = `# a comment
top.dotted = 1

[one]
two = "x" # [not.a.table]
long = """
[fake]
key = 1"""
after = true
"quoted key" = 1.5
'literal.key' = 0x10
list = ["a",
  "b"]
inline = { a = 1, b.c = 2 }

[one.sub]
deep = 1979-05-27
[[many]]
k = 1
[[many]]
k = 2
[many.child]
k = 3
`;
  assert.deepEqual(leaves(text), {
    "top.dotted": "1 @2",
    "one.two": "x @5",
    "one.long": "[fake]\nkey = 1 @6",
    "one.after": "true @9",
    "one.quoted key": "1.5 @10",
    "one.literal.key": "16 @11",
    "one.list[0]": "a @12",
    "one.list[1]": "b @13",
    "one.inline.a": "1 @14",
    "one.inline.b.c": "2 @14",
    "one.sub.deep": "1979-05-27 @17",
    "many[0].k": "1 @19",
    "many[1].k": "2 @21",
    "many[1].child.k": "3 @23",
  });
});

Deno.test("parseToml() knows the line of a key behind Windows' line ends", () => {
  assert.deepEqual(leaves("a = 1\r\n\r\n[b]\r\nc = 2\r\n"), { "a": "1 @1", "b.c": "2 @4" });
});

Deno.test("parseToml() keeps integers that a number cannot hold", () => {
  assert.deepEqual(leaves("a = 9223372036854775807"), { a: "9223372036854775807 @1" });
});

Deno.test("parseToml() takes names of the language for plain keys", () => {
  const { entries } = parseToml("__proto__ = 1\nconstructor = 2", "test");
  assert.deepEqual([...entries.keys()], ["__proto__", "constructor"]);
  assert.equal(Object.hasOwn({}, "__proto__"), false);
});

Deno.test("parseToml() says where text is not TOML", () => {
  const wrong: [string, RegExp][] = [
    ["a = 1\nb = yes\n", /^cannot read test: line 2, column 5: not TOML: unexpected character$/],
    ["a = 1\na = 2\n", /line 2, column 1: .*multiple times/],
    ["[a]\n[a]\n", /line 2, column 2: .*multiple times/],
    ["a = 'x", /line 1, .*string/],
    ["a = \n\n# why\nb = 1\n", /line 1: not TOML/],
    ["[h\nx = 1", /line 1: not TOML/],
    ["vcpus: 1", /line 1, column 6/],
    ["a = [1,\n2", /line 2/],
    ['a = "\\q"', /line 1, column \d+: .*escape/],
    ["\0", /line 1/],
  ];
  for (const [text, message] of wrong) {
    assert.throws(() => parseToml(text, "test"), { code: "InvalidArgument", message }, text);
  }
});

Deno.test("parseToml() refuses random bytes with an error of its own", () => {
  const letters = `[]{}="'.#\n\\ab1-:T,+_ \t`;
  let state = 1;
  const random = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(state / 65_536) % below;
  };
  for (let i = 0; i < 3000; i++) {
    const text = Array.from({ length: random(30) }, () => letters[random(letters.length)]).join("");
    try {
      parseToml(text, "test");
    } catch (error) {
      assert.match(String(error), /^SandboxError: cannot read test: line/, JSON.stringify(text));
    }
  }
});
