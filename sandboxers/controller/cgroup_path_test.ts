import assert from "node:assert/strict";
import { cgroupPath } from "./cgroup_path.ts";

Deno.test("cgroupPath() leaves no cgroup as it is", () => {
  assert.equal(cgroupPath(""), "");
});

Deno.test("cgroupPath() keeps the paths of the cgroupfs driver", () => {
  assert.equal(cgroupPath("/kubepods/besteffort/pod1"), "/kubepods/besteffort/pod1");
  assert.equal(cgroupPath("kubepods//pod1/"), "/kubepods/pod1");
  assert.equal(cgroupPath("/kubepods.slice/a.slice"), "/kubepods.slice/a.slice");
});

Deno.test("cgroupPath() spells out the slices of the systemd driver", () => {
  assert.equal(cgroupPath("system.slice"), "/system.slice");
  assert.equal(
    cgroupPath("kubepods-besteffort-pod1.slice"),
    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice",
  );
});

Deno.test("cgroupPath() refuses what leads elsewhere", () => {
  for (const parent of ["/..", "../x", "/a/../b", "/", "/a/./b", "a\0b", "-.slice", "a--b.slice"]) {
    assert.throws(() => cgroupPath(parent), {
      code: "InvalidArgument",
      message: /cgroup_parent/,
    }, parent);
  }
});
