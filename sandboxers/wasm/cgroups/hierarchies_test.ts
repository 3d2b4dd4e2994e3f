/**
 * Hierarchies as mount tables of different hosts describe them.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { CgroupFiles } from "./files.ts";
import { findHierarchies, type Hierarchy, hierarchyOf } from "./hierarchies.ts";

/** Files of a host. */
function host(texts: Readonly<Record<string, string>>): CgroupFiles {
  const unused = () => {
    throw new Error("only reading is expected");
  };
  return {
    read: (path) => texts[path],
    write: unused,
    writeLater: unused,
    makeDirectory: unused,
    removeDirectory: unused,
    directories: unused,
    open: unused,
    close: unused,
  };
}

/** What is compared of a hierarchy. */
function shape({ version, root, own, controllers }: Hierarchy) {
  return { version, root, own, controllers: [...controllers].sort() };
}

Deno.test("a host with version 1: each hierarchy by itself, some with two controllers", () => {
  const files = host({
    "/proc/self/mountinfo": [
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
      "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
      "34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
      "35 31 0:31 / /mnt/again rw - cgroup cgroup rw,pids",
      "36 31 0:33 / /mnt/with\\040space rw - cgroup cgroup rw,freezer",
      "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
      "",
    ].join("\n"),
    "/proc/self/cgroup": [
      "5:freezer:/",
      "4:memory:/user",
      "3:pids:/user/1",
      "2:cpu,cpuacct:/system",
      "1:name=systemd:/x",
      "",
    ].join("\n"),
  });
  const found = findHierarchies(files);
  assert.deepEqual(found.map(shape), [
    {
      version: 1,
      root: "/sys/fs/cgroup/cpu,cpuacct",
      own: "/system",
      controllers: ["cpu", "cpuacct"],
    },
    { version: 1, root: "/sys/fs/cgroup/pids", own: "/user/1", controllers: ["pids"] },
    { version: 1, root: "/mnt/with space", own: "", controllers: ["freezer"] },
  ]);
  assert.equal(hierarchyOf(found, "cpuset"), undefined);
  assert.equal(hierarchyOf(found, "freezer")?.version, 1);
});

Deno.test("a host with version 2: what was delegated to the own cgroup counts", () => {
  const files = host({
    "/proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
    "/proc/self/cgroup": "0::/system.slice/quasaur-wasm.service\n",
    "/sys/fs/cgroup/system.slice/quasaur-wasm.service/cgroup.controllers": "cpu memory pids\n",
  });
  assert.deepEqual(findHierarchies(files).map(shape), [{
    version: 2,
    root: "/sys/fs/cgroup",
    own: "/system.slice/quasaur-wasm.service",
    controllers: ["cpu", "freezer", "pids"],
  }]);
});

Deno.test("a host with both: version 2 freezes, the controllers are where they are", () => {
  const files = host({
    "/proc/self/mountinfo": [
      "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
      "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer",
      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    ].join("\n"),
    "/proc/self/cgroup": "6:freezer:/\n1:cpu:/\n0::/\n",
    "/sys/fs/cgroup/unified/cgroup.controllers": "\n",
  });
  const found = findHierarchies(files);
  assert.equal(hierarchyOf(found, "cpu")?.root, "/sys/fs/cgroup/cpu");
  assert.equal(hierarchyOf(found, "freezer")?.root, "/sys/fs/cgroup/unified");
});

Deno.test("a part of a hierarchy that a container manager mounted is seen from its own root", () => {
  const files = host({
    "/proc/self/mountinfo": "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
    "/proc/self/cgroup": "1:cpu:/docker/abc/inner\n",
  });
  assert.equal(findHierarchies(files)[0]?.own, "/inner");
});

Deno.test("a host without cgroups has no hierarchies", () => {
  assert.deepEqual(findHierarchies(host({})), []);
});
