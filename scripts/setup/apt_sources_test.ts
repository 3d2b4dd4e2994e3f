import assert from "node:assert/strict";
import { findSource, parseSources, writeSource } from "./apt_sources.ts";

Deno.test("parseSources() reads the deb822 format", () => {
  const text = `# A comment
Types: deb
# inside a stanza
URIs: http://a.example.org/debian
Suites: bookworm bookworm-updates
Components: main non-free
Signed-By: /usr/share/keyrings/a.gpg

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: bookworm
Components: main

Types: deb
URIs: mirror+file:///etc/apt/mirrors/b.list
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`;
  const [first, second, ...rest] = parseSources("/etc/apt/sources.list.d/debian.sources", text);
  assert.deepEqual(first, {
    types: ["deb"],
    uris: ["http://a.example.org/debian"],
    suites: ["bookworm", "bookworm-updates"],
    components: ["main", "non-free"],
    options: { "Signed-By": "/usr/share/keyrings/a.gpg" },
  });
  assert.deepEqual(second?.uris, ["mirror+file:///etc/apt/mirrors/b.list"]);
  assert.match(
    second?.options["Signed-By"] ?? "",
    /^-----BEGIN[\s\S]*END PGP PUBLIC KEY BLOCK-----$/,
  );
  assert.deepEqual(rest, []);
});

Deno.test("parseSources() reads the one-line format", () => {
  const text = `# deb http://old.example.org/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg] http://a.example.org/debian bookworm main contrib # note
deb-src http://a.example.org/debian bookworm main

deb http://b.example.org/debian stable main
`;
  const sources = parseSources("/etc/apt/sources.list", text);
  assert.deepEqual(sources, [
    {
      types: ["deb"],
      uris: ["http://a.example.org/debian"],
      suites: ["bookworm"],
      components: ["main", "contrib"],
      options: { "Architectures": "amd64 arm64", "Signed-By": "/k.gpg" },
    },
    {
      types: ["deb-src"],
      uris: ["http://a.example.org/debian"],
      suites: ["bookworm"],
      components: ["main"],
      options: {},
    },
    {
      types: ["deb"],
      uris: ["http://b.example.org/debian"],
      suites: ["stable"],
      components: ["main"],
      options: {},
    },
  ]);
  assert.equal(findSource(sources, ["bookworm"])?.uris[0], "http://a.example.org/debian");
  assert.equal(findSource(sources, ["trixie", "stable"])?.uris[0], "http://b.example.org/debian");
  assert.equal(findSource(sources, ["sid"]), undefined);
});

Deno.test("what writeSource() writes is read back with the new suite and the old keys", () => {
  const key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----";
  for (const signedBy of ["/k.gpg", key]) {
    const source = {
      types: ["deb", "deb-src"],
      uris: ["http://a.example.org/debian", "http://b.example.org/debian"],
      suites: ["bookworm"],
      components: ["main", "contrib"],
      options: { "Signed-By": signedBy, "Check-Valid-Until": "no" },
    };
    const text = writeSource(source, "forky", ["Why", "it is here"]);
    assert.match(text, /^# Why\n# it is here\n/);
    assert.deepEqual(parseSources("/x.sources", text), [
      { ...source, types: ["deb"], suites: ["forky"], components: ["main"] },
    ]);
  }
});
