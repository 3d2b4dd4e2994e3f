import assert from "node:assert/strict";
import {
  parseCpus,
  parseDirectory,
  parseDuration,
  parseEnvironment,
  parseGvisorNet,
  parseHostname,
  parseIsolation,
  parseLabel,
  parseMemory,
  parseName,
  parseNet,
  parseUser,
  parseUserName,
  parseVolume,
  parseWorkdir,
} from "./run_values.ts";
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

Deno.test("--cpus, --net, --user and --timeout take what they mean", () => {
  assert.equal(parseCpus("2"), 2);
  assert.equal(parseCpus("0.5"), 0.5);
  assert.equal(parseNet("user"), "user");
  assert.deepEqual(parseUser("5"), { uid: 5, gid: 5 });
  assert.deepEqual(parseUser("5:6"), { uid: 5, gid: 6 });
  assert.equal(parseDuration("30"), 30_000);
  assert.equal(parseDuration("1.5s"), 1500);
  assert.equal(parseDuration("2m"), 120_000);
  assert.equal(parseDuration("20ms"), 20);
  assert.equal(parseDuration("1h30m"), 5_400_000);
  assert.equal(parseDuration("1d"), 86_400_000);
  // Not everything is counted by a timer.
  assert.equal(parseDuration("90d", "--unused-for", 1e10), 7_776_000_000);
});

Deno.test("--user of run takes names too, and numbers as before", () => {
  assert.deepEqual(parseUserName("5"), { uid: 5, gid: 5 });
  assert.equal(parseUserName("www-data:1000"), "www-data:1000");
  for (const text of ["", ":", "a:", "a b", "a:b:c"]) {
    refuses(() => parseUserName(text), "--user", "USER:GROUP");
  }
});

Deno.test("--name, --hostname, --label and --isolation take what they mean", () => {
  assert.equal(parseName("web-1.a_b"), "web-1.a_b");
  assert.equal(parseHostname("box.example"), "box.example");
  assert.deepEqual(parseLabel("a/b=c=d"), ["a/b", "c=d"]);
  assert.deepEqual(parseLabel("bare"), ["bare", ""]);
  assert.equal(parseIsolation("process"), "process");
  refuses(() => parseName("-x"), "--name");
  refuses(() => parseName("a".repeat(65)), "--name");
  refuses(() => parseHostname("a_b"), "--hostname");
  refuses(() => parseLabel("=x"), "--label");
  refuses(() => parseIsolation("vm"), "--isolation", "thread or process");
});

Deno.test("--volume takes a file or directory, a path inside and a mode", () => {
  assert.deepEqual(parseVolume("/etc/hostname:/a/b:ro"), {
    source: "/etc/hostname",
    destination: "/a/b",
    readonly: true,
  });
  assert.equal(parseVolume("/tmp:/a").readonly, false);
});

Deno.test("values for machines say what is wrong with them", () => {
  const wrong: [() => unknown, RegExp][] = [
    [() => parseCpus("0"), /--cpus "0": expected a number above 0/],
    [() => parseCpus("1e3"), /--cpus/],
    [() => parseCpus("-1"), /--cpus/],
    [() => parseNet("host"), /--net "host": expected none or user/],
    [() => parseUser("root"), /--user "root": expected UID or UID:GID/],
    [() => parseUser("1:"), /--user/],
    [() => parseDuration("0"), /--timeout "0": expected a duration/],
    [() => parseDuration("1w"), /--timeout/],
    [() => parseDuration("999999999h"), /--timeout .*at most 24d/],
    [() => parseVolume("/tmp"), /--volume "\/tmp": expected SOURCE:DESTINATION/],
    [() => parseVolume("/tmp:/a:rx"), /--volume/],
    [() => parseVolume("/tmp:/a/../b"), /--volume .*without "\.\."/],
    [() => parseVolume("/tmp:/"), /--volume .*below/],
    [() => parseVolume("/nonexistent:/a"), /SOURCE to be there, "\/nonexistent" is not/],
  ];
  for (const [parse, message] of wrong) assert.throws(parse, { name: "UsageError", message });
});

Deno.test("--net of gVisor takes none, host or a network namespace", () => {
  assert.deepEqual(parseGvisorNet("none"), { kind: "none" });
  assert.deepEqual(parseGvisorNet("host"), { kind: "host" });
  assert.deepEqual(parseGvisorNet("/run/netns/a"), { kind: "namespace", path: "/run/netns/a" });
  for (const text of ["", "user", "run/netns/a", "/", "/run/../etc"]) {
    assert.throws(() => parseGvisorNet(text), { name: "UsageError", message: /Invalid --net/ });
  }
});
