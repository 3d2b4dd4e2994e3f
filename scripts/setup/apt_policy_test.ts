import assert from "node:assert/strict";
import { parsePolicies, parseReleases, parseSimulation } from "./apt_policy.ts";

Deno.test("parseReleases() reads each release once and leaves out what is only installed", () => {
  const text = `Package files:
 100 /var/lib/dpkg/status
     release a=now
 500 http://deb.debian.org/debian bookworm/main amd64 Packages
     release v=12.15,o=Debian,a=oldstable,n=bookworm,l=Debian,c=main,b=amd64
     origin deb.debian.org
 500 http://deb.debian.org/debian bookworm/main arm64 Packages
     release v=12.15,o=Debian,a=oldstable,n=bookworm,l=Debian,c=main,b=amd64
     origin deb.debian.org
Pinned packages:
`;
  assert.deepEqual(parseReleases(text), [
    { origin: "Debian", label: "Debian", codename: "bookworm", archive: "oldstable" },
  ]);
});

Deno.test("parsePolicies() reads installed, candidate and the suites of each version", () => {
  const text = `containerd:
  Installed: 2.1.9+ds1-5
  Candidate: 2.1.9+ds1-5
  Version table:
 *** 2.1.9+ds1-5 100
        100 http://deb.debian.org/debian forky/main amd64 Packages
        100 /var/lib/dpkg/status
     1.6.20~ds1-1+deb12u3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
byhand:
  Installed: 1.0
  Candidate: 1.0
  Version table:
 *** 1.0 100
        100 /var/lib/dpkg/status
unknown:
  Installed: (none)
  Candidate: (none)
  Version table:
`;
  assert.deepEqual(Object.fromEntries(parsePolicies(text)), {
    containerd: {
      installed: "2.1.9+ds1-5",
      candidate: "2.1.9+ds1-5",
      versions: [
        { version: "2.1.9+ds1-5", suites: ["forky"], priority: 100 },
        {
          version: "1.6.20~ds1-1+deb12u3",
          suites: ["bookworm", "bookworm-security"],
          priority: 500,
        },
      ],
    },
    byhand: { installed: "1.0", candidate: "1.0", versions: [] },
    unknown: { installed: undefined, candidate: undefined, versions: [] },
  });
});

Deno.test("parseSimulation() finds what would be removed", () => {
  const output = `1 newly installed, 1 to remove and 133 not upgraded.
Remv busybox-static [1:1.35.0-4+deb12u1+b1]
Inst busybox (1:1.35.0-4+deb12u1+b1 Debian:12.15/oldstable [amd64])
Conf busybox (1:1.35.0-4+deb12u1+b1 Debian:12.15/oldstable [amd64])
`;
  const simulation = parseSimulation(0, output);
  assert.equal(simulation.solvable, true);
  assert.deepEqual(simulation.installs, ["busybox"]);
  assert.deepEqual(simulation.removes, ["busybox-static"]);
  assert.equal(parseSimulation(100, "E: Unable to locate package nosuch").solvable, false);
});
