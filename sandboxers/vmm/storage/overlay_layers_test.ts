import assert from "node:assert/strict";
import { contentKey, overlayLayers } from "./overlay_layers.ts";

function overlay(...options: string[]) {
  return overlayLayers([{ type: "overlay", source: "overlay", options }]);
}

Deno.test("an overlay's layers are told from how it is mounted", () => {
  assert.deepEqual(
    overlay("lowerdir=/a:/b\\:c", "upperdir=/u", "workdir=/w", "index=off", "userxattr", "ro"),
    { lowers: ["/a", "/b:c"], upper: "/u", options: ["userxattr"] },
  );
  assert.equal(overlay("lowerdir=/a:/b")?.upper, undefined);
});

Deno.test("what is no plain overlay has no layers to go by", () => {
  assert.equal(overlay("lowerdir=/a::/data"), undefined);
  assert.equal(overlay("lowerdir=a", "upperdir=/u"), undefined);
  assert.equal(overlay("upperdir=/u"), undefined);
  const bind = { type: "bind", source: "/a", options: ["ro"] };
  assert.equal(overlayLayers([bind]), undefined);
  assert.equal(overlayLayers([]), undefined);
});

Deno.test("the key changes with the layers, their order and their options, and needs an empty upper", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-layers-" });
  try {
    for (const name of ["a", "b", "upper"]) await Deno.mkdir(`${directory}/${name}`);
    const keyOf = (names: string, ...options: string[]) => {
      const lowers = names.split("").map((name) => `${directory}/${name}`);
      return contentKey({ lowers, upper: `${directory}/upper`, options });
    };
    const key = await keyOf("ab");
    assert.match(key ?? "", /^[0-9a-f]{64}$/);
    assert.equal(await keyOf("ab"), key);
    const others = await Promise.all([keyOf("ba"), keyOf("a"), keyOf("ab", "userxattr")]);
    assert.equal(new Set([key, ...others]).size, 4);
    await Deno.writeTextFile(`${directory}/upper/file`, "");
    assert.equal(await keyOf("ab"), undefined);
    await Deno.remove(`${directory}/upper/file`);
    assert.equal(await keyOf("ab"), key);
    assert.equal(await keyOf("x"), undefined, "a layer that is not there");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "without permission to look at the layers there is no key",
  permissions: { read: false },
  fn: async () => {
    assert.equal(await contentKey({ lowers: ["/usr"], upper: undefined, options: [] }), undefined);
  },
});
