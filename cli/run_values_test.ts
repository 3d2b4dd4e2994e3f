import assert from "node:assert/strict";
import { parseDirectory, parseEnvironment, parseMemory, parseWorkdir } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

function refuses(read: () => unknown, ...parts: string[]): void {
  assert.throws(read, (error) => {
    assert.ok(error instanceof UsageError);
    for (const part of parts) assert.ok(error.message.includes(part), error.message);
    return true;
  });
}

Deno.test("--dir takes a host directory, a path inside and a mode", () => {
  const source = "/tmp";
  assert.deepEqual(parseDirectory("/tmp:/data"), {
    source,
    destination: "/data",
    readonly: false,
  });
  assert.deepEqual(parseDirectory("/tmp:/data:ro"), {
    source,
    destination: "/data",
    readonly: true,
  });
  assert.deepEqual(parseDirectory("/tmp:/a/b:rw"), {
    source,
    destination: "/a/b",
    readonly: false,
  });
  assert.equal(parseDirectory(".:/data").source, ".");
});

Deno.test("--dir says what is wrong with a value", () => {
  for (const text of ["", "/tmp", ":/data", "/tmp:", ":", "/tmp:/data:ro:x"]) {
    refuses(() => parseDirectory(text), "--dir", JSON.stringify(text), "HOST:GUEST:ro");
  }
  refuses(() => parseDirectory("/tmp:/data:readonly"), "--dir", '"readonly"');
  refuses(() => parseDirectory("/tmp:data"), "--dir", "absolute path");
  refuses(() => parseDirectory("/tmp:/a/../b"), "--dir", 'without ".."');
  refuses(() => parseDirectory("/tmp:/"), "--dir", 'below "/"');
  refuses(() => parseDirectory("/tmp://"), "--dir", 'below "/"');
  refuses(() => parseDirectory("/no/such/place:/data"), "--dir", "/no/such/place", "directory");
  refuses(() => parseDirectory("/etc/passwd:/data"), "--dir", "/etc/passwd", "directory");
  refuses(() => parseDirectory("/etc/passwd/x:/data"), "--dir", "/etc/passwd/x", "directory");
});

Deno.test("--env takes a name and a value that may be empty or hold an equals sign", () => {
  assert.deepEqual(parseEnvironment("A=b"), ["A", "b"]);
  assert.deepEqual(parseEnvironment("A="), ["A", ""]);
  assert.deepEqual(parseEnvironment("A=b=c"), ["A", "b=c"]);
});

Deno.test("--env says what is wrong with a value", () => {
  for (const text of ["", "A", "=b", "="]) {
    refuses(() => parseEnvironment(text), "--env", JSON.stringify(text), "NAME=VALUE");
  }
});

Deno.test("--memory takes a size and names what it takes otherwise", () => {
  assert.equal(parseMemory("64Mi"), 67_108_864);
  for (const text of ["", "lots", "0", "-1", "1.5Gi", "64mb"]) {
    refuses(() => parseMemory(text), "--memory", JSON.stringify(text), "64Mi");
  }
});

Deno.test("--workdir takes an absolute path", () => {
  assert.equal(parseWorkdir("/a/b"), "/a/b");
  for (const text of ["", "a", "./a", "/a/../b"]) {
    refuses(() => parseWorkdir(text), "--workdir", JSON.stringify(text), "absolute");
  }
});
